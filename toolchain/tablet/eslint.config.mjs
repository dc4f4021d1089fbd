/*
 * What a script of the tablet's page may use: ECMAScript 5, and of the browser what Chrome 44 has.
 * Owns: the list of what is refused. Knows nothing of what the page does.
 *
 * Three nets, since none is whole: the parser (syntax), es-x and compat (what a name is known to
 * need), and lists of our own: only the globals named here exist, and the methods that are newer
 * than Chrome 44 but look like any other are refused by name.
 */
import compat from "eslint-plugin-compat";
import es from "eslint-plugin-es-x";

const NETWORK = [
  "fetch", "XMLHttpRequest", "WebSocket", "EventSource", "sendBeacon", "Worker", "SharedWorker", "open",
];
const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "writeln", "srcdoc"];
const BLOCKING = ["alert", "confirm", "prompt"];
const KEPT = ["localStorage", "sessionStorage", "indexedDB", "cookie"];
/*
 * With the first Chrome that has them. Not here, since ES5 has the same name and the page uses that
 * one: classList.replace (61), KeyboardEvent.code (48).
 */
const NEWER = {
  after: 54, append: 54, before: 54, prepend: 54, replaceWith: 54, replaceChildren: 86,
  composedPath: 53, getRootNode: 54, isConnected: 51, toggleAttribute: 69, getAttributeNames: 61,
  forEach: "51 on a NodeList", entries: "51 on a NodeList", values: "51 on a NodeList",
  keys: "51 on a NodeList", key: 51, inputType: 60, scrollTo: "61 on an element", scrollBy: "61 on an element",
  animate: "84 whole", getAnimations: 84, checkVisibility: 105, requestIdleCallback: 47,
  queueMicrotask: 71, structuredClone: 98, inert: 102, randomUUID: 92,
  visualViewport: 61, matchAll: 73, padStart: 57, padEnd: 57, trimStart: 66, trimEnd: 66, at: 92,
};

const refused = [
  ...NETWORK.map((property) => ({ property, message: "The page asks nothing of any network." })),
  ...MARKUP.map((property) => ({ property, message: "Foreign text becomes text nodes alone." })),
  ...BLOCKING.map((property) => ({ property, message: "It would stop the page." })),
  ...KEPT.map((property) => ({ property, message: "Nothing of a person stays in the tablet." })),
  ...Object.entries(NEWER).map(([property, since]) => ({
    property, message: `Chrome 44 does not have it (${since}).`,
  })),
];

export default [
  es.configs["flat/restrict-to-es5"],
  {
    files: ["**/*.js"],
    plugins: { compat },  // not its own configuration, which lets every browser's globals exist
    languageOptions: {
      ecmaVersion: 5,
      sourceType: "script",
      globals: { window: "readonly", document: "readonly", navigator: "readonly" },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    settings: { targets: ["chrome 44"], lintAllEsApis: true, "es-x": { aggressive: true } },
    rules: {
      /* Arrays have these since ES5, and Chrome 44 makes no iterators that could. */
      "es-x/no-iterator-prototype-filter": "off",
      "es-x/no-iterator-prototype-map": "off",
      "compat/compat": "error",
      "eqeqeq": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-implicit-globals": "error",
      "no-redeclare": "error",
      "no-restricted-properties": ["error", ...refused],
      "no-shadow": "error",
      "no-undef": "error",
      "no-unreachable": "error",
      "no-unused-vars": ["error", { caughtErrors: "none" }],
      "no-use-before-define": ["error", { functions: false }],
      "radix": "error",
      "strict": ["error", "function"],
    },
  },
];
