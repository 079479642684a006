// Edits by hand: two points in the views are joined or split. The list shows all edits and undoes them.
import { element, segmentationLayer, showMarks } from "./layers.js";
import { base, given } from "./start.js";
import { showCurve, update, wanted } from "./threshold.js";

const COLOURS = { join: "#9be39b", split: "#ffb347" };
const ASKED = {
  join: ["Click a point in the first segment.", "Click a point in the segment to join it with."],
  split: ["Click a point in the segment.", "Click a point that belongs to another neuron."],
};
// A press that moves farther pans the view.
const CLICK_PIXELS = 4;
// The curve is drawn when no other edit has followed for this time.
const CURVE_MS = 1500;

export function editsPart(view) {
  const join = element("button", { type: "button", "aria-pressed": "false" }, "Join");
  const split = element("button", { type: "button", "aria-pressed": "false" }, "Split");
  const centre = element("button", { type: "button", title: "For work without a mouse" }, "Take the centre");
  const cancel = element("button", { type: "button" }, "Cancel");
  const list = element("ol", { "aria-label": "Edits" });
  view.edits = { buttons: { join, split }, centre, cancel, list, kind: null, points: [], segments: [], marks: [], key: "none" };
  join.addEventListener("click", () => begin(view, "join"));
  split.addEventListener("click", () => begin(view, "split"));
  centre.addEventListener("click", () => take(view, [...window.viewer.position.value], null));
  cancel.addEventListener("click", () => end(view, "Cancelled."));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && view.edits.kind) end(view, "Cancelled.");
  }, true);
  // Another page, or neuroseg edits, has changed the edits.
  document.addEventListener("neuroseg-edits", (event) => {
    if (event.detail !== view.edits.key) refresh(view);
  });
  listenToClicks(view);
  showButtons(view);
  return element("div", { class: "edits" },
    element("div", { class: "row" }, element("h2", {}, "Edit"), join, split, centre, cancel), list);
}

// List the edits. Return the marks of their layer.
export async function listEdits(view) {
  const response = await fetch(`${base}/edits`);
  return response.ok ? list(view, await response.json()) : [];
}

function begin(view, kind) {
  view.edits.kind = kind;
  view.edits.points = [];
  view.edits.segments = [];
  view.status.textContent = ASKED[kind][0];
  showButtons(view);
}

function end(view, text) {
  const button = view.edits.buttons[view.edits.kind];
  if (view.edits.list.parentNode.contains(document.activeElement)) button?.focus(); // the focused one may disappear
  view.edits.kind = null;
  view.edits.points = [];
  view.edits.segments = [];
  view.status.textContent = text;
  showMarks(given.edits.name, view.edits.marks);
  showButtons(view);
}

function showButtons(view) {
  const { buttons, centre, cancel, kind } = view.edits;
  for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(name === kind));
  centre.hidden = cancel.hidden = kind === null;
  document.body.classList.toggle("neuroseg-picking", kind !== null);
}

// A click is a press that does not move. The client still pans with the mouse and scrolls through sections.
function listenToClicks(view) {
  let pressed = null;
  const container = () => document.getElementById("neuroglancer-container");
  document.addEventListener("pointerdown", (event) => {
    pressed = view.edits.kind && event.button === 0 && event.detail < 2 && container()?.contains(event.target)
      ? [event.clientX, event.clientY] : null;
  }, true);
  document.addEventListener("pointerup", (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > CLICK_PIXELS) return;
    pressed = null;
    const mouse = window.viewer.mouseState;
    if (!mouse.updateUnconditionally()) return;
    // The position on a mesh is not exact: the server looks for the nearest voxel of its segment.
    const isMesh = segmentationLayer().renderLayers.includes(mouse.pickedRenderLayer);
    take(view, [...mouse.position].slice(0, 3), isMesh && mouse.pickedValue ? mouse.pickedValue : null);
  }, true);
}

async function take(view, point, segment) {
  const { kind, points, segments } = view.edits;
  points.push(point);
  segments.push(segment === null ? null : String(segment));
  if (points.length < 2) {
    view.status.textContent = ASKED[kind][1];
    const first = { text: "first point", colour: COLOURS[kind], position: point, other: null };
    showMarks(given.edits.name, [...view.edits.marks, first]);
    return;
  }
  const { threshold, size } = wanted(view);
  end(view, "");
  await change(view, { kind, points, segments, threshold, min_size: size });
}

async function change(view, edit) {
  try {
    const response = await fetch(`${base}/edits`, { method: "POST", body: JSON.stringify(edit) });
    if (!response.ok) throw new Error(`The server answers: ${response.statusText}`);
    const found = await response.json();
    showMarks(given.edits.name, list(view, found));
    await update(view);
    if (found.error) view.status.textContent = found.error;
    clearTimeout(view.edits.timer);
    view.edits.timer = setTimeout(() => showCurve(view), CURVE_MS);
  } catch (error) {
    view.status.textContent = error.message;
  }
}

async function refresh(view) {
  showMarks(given.edits.name, await listEdits(view));
  await update(view);
  await showCurve(view);
}

function list(view, found) {
  view.edits.key = found.key;
  const inList = view.edits.list.contains(document.activeElement);
  view.edits.list.replaceChildren(...found.edits.map((edit) => row(view, edit)));
  if (!found.written) {
    const text = "Not in the segmentation yet: press “Use this threshold”.";
    view.edits.list.append(element("li", { class: "note" }, text));
  }
  if (inList) (view.edits.list.querySelector(".undo") ?? view.edits.buttons.join).focus();
  view.edits.marks = found.edits.map((edit) => ({
    text: described(edit), colour: COLOURS[edit.kind], position: edit.positions[0], other: edit.positions[1],
  }));
  return view.edits.marks;
}

function row(view, edit) {
  const name = element("button", { type: "button", title: described(edit) },
    element("span", { class: "kind", style: `color: ${COLOURS[edit.kind]}` }, `${edit.number} ${edit.kind}`), edit.by);
  name.addEventListener("click", () => { window.viewer.position.value = Float32Array.from(edit.positions[0]); });
  if (edit.problem) name.append(element("span", { class: "note" }, "does not fit"));
  const undo = element("button", { type: "button", class: "undo", "aria-label": `Undo edit ${edit.number}` }, "Undo");
  undo.addEventListener("click", () => change(view, { undo: edit.number }));
  return element("li", {}, name, undo);
}

function described(edit) {
  const problem = edit.problem ? `. It is left out: ${edit.problem}` : "";
  return `${edit.kind} ${edit.number}, by ${edit.by}, ${edit.at}${problem}`;
}
