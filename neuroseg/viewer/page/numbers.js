// The numbers of a segmentation, and their curve over all thresholds.
import { element } from "./layers.js";

const COLOURS = { voi_split: "#6fa4dd", voi_merge: "#ff9580", segments: "#9be39b", largest_share: "#ffd166" };
const NAMES = {
  segments: "Segments", largest_share: "Largest segment",
  voi_split: "VOI split (bits)", voi_merge: "VOI merge (bits)",
};

export function showNumbers(view, cut) {
  view.numbers.replaceChildren();
  for (const [key, name] of Object.entries(NAMES)) {
    if (cut[key] === undefined) continue;
    const text = key === "segments" ? cut[key].toLocaleString("en")
      : key === "largest_share" ? `${(100 * cut[key]).toFixed(1)} %` : cut[key].toFixed(3);
    view.numbers.append(element("dt", {}, name), element("dd", { "data-key": key }, text));
  }
}

export function drawCurve(view, rows) {
  const scored = rows.some((row) => row.voi_split !== undefined);
  const keys = scored ? ["voi_split", "voi_merge"] : ["segments", "largest_share"];
  view.curve.replaceChildren();
  view.legend.replaceChildren();
  view.curve.setAttribute("viewBox", "0 0 100 40");
  view.curve.setAttribute("preserveAspectRatio", "none");
  view.curve.setAttribute("role", "img");
  view.curve.setAttribute("aria-label", `${keys.map((key) => NAMES[key]).join(" and ")} by threshold, from 0 to 1`);
  const top = (key) => Math.max(...(scored ? keys : [key]).flatMap((k) => rows.map((row) => row[k])), 1e-9);
  for (const key of keys) {
    const points = rows.map((row) => `${100 * row.threshold},${39 - 37 * row[key] / top(key)}`).join(" ");
    view.curve.append(svg("polyline", { points, fill: "none", stroke: COLOURS[key], "stroke-width": 2 }));
    const sample = element("span", { style: `color: ${COLOURS[key]}`, "aria-hidden": "true" }, "━ ");
    view.legend.append(element("span", {}, sample, NAMES[key]));
  }
}

export function markThreshold(view, threshold) {
  view.curve.querySelector("line")?.remove();
  view.curve.append(svg("line", {
    x1: 100 * threshold, x2: 100 * threshold, y1: 0, y2: 40, stroke: "#ffffff", "stroke-width": 1.5,
  }));
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.setAttribute("vector-effect", "non-scaling-stroke");
  return made;
}
