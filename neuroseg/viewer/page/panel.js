// The panel beside neuroglancer: threshold, numbers, edits by hand, and places to inspect.
import { setColours } from "./colours.js";
import { editsPart, listEdits } from "./edits.js";
import { addMarkLayers, element, inTurn } from "./layers.js";
import { listPlaces } from "./places.js";
import { beginWithState, followRun, given } from "./start.js";
import { showCurve, shown, update, wanted, write } from "./threshold.js";

Object.assign(shown, beginWithState() ?? { threshold: given.threshold, size: given.min_size });
if (given.is_workspace) {
  document.addEventListener("DOMContentLoaded", build);
  document.addEventListener("DOMContentLoaded", followRun);
}

function build() {
  const view = parts();
  const edits = editsPart(view);
  const panel = element("section", { id: "neuroseg-panel", "aria-label": "Threshold of the segmentation" },
    element("header", {}, element("h1", {}, "Segmentation"), view.collapse),
    element("div", { class: "row" }, element("label", { for: view.threshold.id }, "Threshold"), view.threshold,
      view.exact),
    element("div", { class: "row" }, element("label", { for: view.size.id }, "Min. voxels"), view.size, view.use),
    view.numbers, view.curve, view.legend, edits, view.status, view.places);
  document.body.append(panel);
  // Keys pressed in the panel are not commands of neuroglancer.
  for (const name of ["keydown", "keyup", "keypress", "wheel", "pointerdown"]) {
    panel.addEventListener(name, (event) => event.stopPropagation());
  }
  listen(view, panel);
  if (given.threshold === null) {
    for (const part of [view.threshold.parentNode, view.size.parentNode, view.curve, edits]) part.hidden = true;
    view.status.textContent = "No threshold to choose: there is no merge tree.";
    begin(view, () => listMarks(view), setColours);
  } else {
    begin(view, () => update(view), () => showCurve(view), () => listMarks(view), setColours);
  }
}

function parts() {
  return {
    threshold: element("input", {
      id: "neuroseg-threshold", type: "range", min: 0, max: 1, step: 0.005, value: shown.threshold ?? 0,
    }),
    exact: element("input", {
      type: "number", min: 0, max: 1, step: "any", value: shown.threshold ?? "", "aria-label": "Threshold as a number",
    }),
    size: element("input", { id: "neuroseg-size", type: "number", min: 0, step: 1, value: shown.size }),
    numbers: element("dl", { "aria-live": "polite" }),
    curve: document.createElementNS("http://www.w3.org/2000/svg", "svg"),
    legend: element("div", { class: "legend" }),
    use: element("button", { type: "button" }, "Use this threshold"),
    places: element("div", { class: "places" }),
    status: element("p", { class: "status", role: "status" }),
    collapse: element("button", { type: "button", "aria-expanded": "true", "aria-label": "Hide the panel" }, "–"),
  };
}

function listen(view, panel) {
  view.collapse.addEventListener("click", () => {
    const hidden = panel.classList.toggle("collapsed");
    view.collapse.textContent = hidden ? "+" : "–";
    view.collapse.setAttribute("aria-expanded", String(!hidden));
    view.collapse.setAttribute("aria-label", hidden ? "Show the panel" : "Hide the panel");
  });
  view.threshold.addEventListener("input", () => { view.exact.value = view.threshold.value; update(view); });
  view.exact.addEventListener("change", () => {
    view.exact.value = wanted(view).threshold; // the last valid one
    view.threshold.value = view.exact.value;
    update(view);
  });
  view.size.addEventListener("change", () => update(view));
  view.use.addEventListener("click", () => write(view));
}

async function listMarks(view) {
  const [places, edits] = [await listPlaces(view), await listEdits(view)];
  const marks = [{ layer: given.places, marks: places }, { layer: given.edits, marks: edits }];
  await inTurn(() => addMarkLayers(marks.filter(({ layer, marks }) => layer !== given.places || marks.length)));
}

async function begin(view, ...steps) {
  while (!window.viewer?.layerManager.managedLayers.length) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      view.status.textContent = error.message;
    }
  }
}
