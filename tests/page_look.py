"""What a page looks like from within: widths, headings, drawings and the contrast of every word."""

from __future__ import annotations

ENOUGH_CONTRAST = 4.5
"""WCAG 2 AA, text of any size."""
LOOK = """
() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => {  // the first that is not see-through; of an SVG its page's
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = rgba(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const all = (which) => [...document.querySelectorAll(which)];
  const box = (node) => {
    const its = node.getBoundingClientRect();
    return [its.left, its.right, its.width, its.height];
  };
  const words = all(
    "p, li, dt, dd, th, td, h1, h2, h3, h4, h5, a, b, caption, figcaption, blockquote, mark, " +
    ".detail, .badge, .placeholder span, svg text"
  ).filter((node) => node.textContent.trim());
  return {
    width: document.documentElement.scrollWidth, inner: innerWidth,
    headings: all("h1, h2, h3, h4, h5").map(box),
    drawings: all("svg").map(box),
    drawn: all("svg text").map((node) => {
      const at = node.getBoundingClientRect(), its = node.ownerSVGElement.getBoundingClientRect();
      return [at.left - its.left, its.right - at.right, at.top - its.top, its.bottom - at.bottom];
    }),
    faint: words.map((node) => {
      const style = getComputedStyle(node);
      return [contrast(rgba(node.ownerSVGElement ? style.fill : style.color), ground(node)),
              node.textContent.trim().slice(0, 40)];
    }),
    dark: light(ground(document.body)),
    ids: all("[id]").map((node) => node.id),
  };
}
"""
