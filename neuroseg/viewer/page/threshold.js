// The segmentation at the chosen threshold: shown, with its numbers, and written when the user wants it.
import { SEGMENTATION, inTurn, replaceSource, segmentationLayer, select, selectionOf } from "./layers.js";
import { drawCurve, markThreshold, showNumbers } from "./numbers.js";
import { base, data } from "./start.js";

const MOST_SELECTED = 100;

export const shown = { threshold: null, size: 0 };

export function wanted(view) {
  // The slider has steps, the number is exact.
  const threshold = view.exact.value === "" ? Number.NaN : Number(view.exact.value);
  return {
    threshold: threshold >= 0 && threshold <= 1 ? threshold : shown.threshold,
    size: Math.max(0, Math.floor(Number(view.size.value) || 0)),
  };
}

// Return the segmentation at the chosen threshold: its version, its numbers, and the segments of some fragments.
export async function cutOf(view, fragments) {
  const { threshold, size } = wanted(view);
  const query = new URLSearchParams({ threshold, min_size: size, selected: fragments.join(",") });
  const response = await fetch(`${base}/cut?${query}`);
  if (!response.ok) throw new Error(`The server answers: ${response.statusText}`);
  return response.json();
}

// One change of the threshold at a time: values that the user drags over meanwhile are skipped.
let busy = false, again = false;
export async function update(view) {
  if (busy) { again = true; return; }
  busy = true;
  try {
    do { again = false; await inTurn(() => show(view)); } while (again);
  } catch (error) {
    view.status.textContent = error.message;
  } finally {
    busy = false;
  }
}

async function show(view) {
  const { threshold } = wanted(view);
  const layer = segmentationLayer(), selection = selectionOf(layer);
  const selected = selection ? [...selection].slice(0, MOST_SELECTED) : [];
  const cut = await cutOf(view, selected);
  shown.threshold = threshold;
  showNumbers(view, cut);
  markThreshold(view, threshold);
  if (!layer) return;
  // Segments that the user selects while the new labels are read stay selected.
  if (selected.length && selected.length < MOST_SELECTED) select(selection, cut.selected);
  await replaceSource(layer, `precomputed://${data}/${SEGMENTATION}/${cut.version}`);
}

export async function showCurve(view) {
  drawCurve(view, (await (await fetch(`${base}/curve`)).json()).curve);
  markThreshold(view, wanted(view).threshold);
}

export async function write(view) {
  const { threshold, size } = wanted(view);
  view.use.disabled = true;
  try {
    let state = await (await fetch(`${base}/use`, {
      method: "POST", body: JSON.stringify({ threshold, min_size: size }),
    })).json();
    while (state.running) {
      view.status.textContent = `Running: ${state.command}`;
      await new Promise((resolve) => setTimeout(resolve, 300));
      state = await (await fetch(`${base}/use`)).json();
    }
    view.status.textContent = state.error || `Done: ${state.command}`;
  } catch (error) {
    view.status.textContent = `The server does not answer: ${error.message}`;
  } finally {
    view.use.disabled = false;
  }
}
