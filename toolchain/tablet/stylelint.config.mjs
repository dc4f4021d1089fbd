/*
 * What the tablet's style sheet may use: what Chrome 44 has.
 * Owns: the lists of properties, functions and selectors that are known there. Knows nothing of how
 * the page looks.
 *
 * The plugin knows many newer features by name, but not all: so what is allowed is listed, and a
 * property that nobody has looked up is refused.
 */
const PROPERTIES = [
  "align-content", "align-items", "animation", "animation-delay", "background", "border",
  "border-bottom", "border-color", "border-left", "border-radius", "border-width", "bottom",
  "box-shadow", "box-sizing", "clear", "color", "cursor", "display", "fill", "flex",
  "flex-direction", "flex-wrap", "float", "font-family", "font-size", "font-weight", "height",
  "justify-content", "left", "line-height", "list-style", "margin", "margin-bottom", "margin-left",
  "margin-right", "margin-top", "max-height", "max-width", "min-height", "min-width", "opacity",
  "outline", "overflow", "overflow-x", "overflow-y", "padding", "padding-bottom", "padding-left",
  "padding-right", "padding-top", "position", "right", "stroke", "stroke-linecap",
  "stroke-linejoin", "stroke-width", "text-align", "top", "touch-action", "transform",
  "transform-origin", "visibility", "white-space", "width", "word-wrap",
  "-webkit-box-orient", "-webkit-line-clamp", "-webkit-tap-highlight-color",
  "-webkit-text-size-adjust", "-webkit-user-select",
];

export default {
  plugins: ["stylelint-no-unsupported-browser-features"],
  reportNeedlessDisables: true,
  rules: {
    "plugin/no-unsupported-browser-features": [true, {
      browsers: ["chrome 44"],
      /*
       * touch-action is there since 36 (the plugin takes it for pointer events); of overflow and of
       * the logical values of text-align the ones listed below are.
       */
      ignore: ["pointer", "css-overflow", "css-logical-props"],
    }],
    "at-rule-allowed-list": ["media", "keyframes"],
    "color-function-notation": "legacy",
    "color-no-invalid-hex": true,
    "declaration-property-value-allowed-list": {
      "display": ["none", "block", "inline", "inline-block", "flex", "-webkit-box"],
      "position": ["static", "relative", "absolute", "fixed"],
      "/^overflow/": ["visible", "hidden", "auto", "scroll"],
      "text-align": ["start", "left", "center", "right"],
    },
    "declaration-block-no-duplicate-properties": true,
    "function-allowed-list": ["calc", "rgba", "scale", "scaleX", "translateX", "translateY"],
    "max-nesting-depth": [0, { ignoreAtRules: ["media", "keyframes"] }],
    "media-feature-name-allowed-list": ["min-aspect-ratio"],
    "media-feature-range-notation": "prefix",
    "no-duplicate-selectors": true,
    "no-unknown-animations": true,
    "property-allowed-list": PROPERTIES,
    "selector-attribute-operator-allowed-list": ["="],
    "selector-combinator-allowed-list": [" ", ">"],
    "selector-pseudo-class-allowed-list": ["active", "first-child", "focus"],
    "selector-pseudo-element-allowed-list": ["-webkit-input-placeholder"],
    "unit-allowed-list": ["%", "deg", "em", "px", "rem", "s", "vw"],
  },
};
