// How the layers of neuroglancer are changed, and how elements of the panel are made.
export const SEGMENTATION = "segmentation";
const LONGEST_LOAD_MS = 5000;

export function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Changes of the layers wait for each other: one may replace the layers that another one changes.
let last = Promise.resolve();
export function inTurn(change) {
  const done = last.then(change);
  last = done.catch(() => {});
  return done;
}

export function segmentationLayer() {
  return window.viewer?.layerManager.getLayerByName(SEGMENTATION)?.layer;
}

export function selectionOf(layer) {
  return layer?.displayState.segmentationGroupState.value.visibleSegments;
}

export function select(selection, names) {
  selection.clear();
  for (const name of names) selection.add(BigInt(name));
}

// A second source under the new address: the old one is drawn until the new one is complete.
export async function replaceSource(layer, url) {
  const old = [...layer.dataSources];
  if (old.at(-1).spec.url === url) return;
  const added = layer.addDataSource({ ...old[0].spec, url, subsources: new Map() });
  const begin = performance.now();
  while (!(added.loadState !== undefined && window.viewer.isReady()) && performance.now() < begin + LONGEST_LOAD_MS) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const source of old) source.spec = { ...source.spec, url: "" };
  window.neurosegLatency = performance.now() - begin;
}

// Marks have a text, a colour, a position and another position or null.
function annotationsOf(marks) {
  return marks.map((mark, number) => ({
    id: String(number), description: mark.text, props: [mark.colour],
    ...(mark.other ? { type: "line", pointA: mark.position, pointB: mark.other }
      : { type: "point", point: mark.position }),
  }));
}

// Add layers of marks, all at once: restoring the list makes every layer anew, with its state.
export function addMarkLayers(added) {
  const asText = (key, value) => (typeof value === "bigint" ? value.toString() : value);
  const layers = JSON.parse(JSON.stringify(window.viewer.layerSpecification.toJSON(), asText));
  const marked = added.map(({ layer, marks }) => ({ ...layer, annotations: annotationsOf(marks) }));
  window.viewer.layerSpecification.restoreState([...layers, ...marked]);
  for (const { layer } of added) keepOutOfTheAddress(layer.name);
}

// The address stays short: the page adds the marks anew.
async function keepOutOfTheAddress(name) {
  const marks = () => window.viewer.layerManager.getLayerByName(name)?.layer?.localAnnotations;
  const begin = performance.now();
  while (!marks() && performance.now() < begin + LONGEST_LOAD_MS) await new Promise((resolve) => setTimeout(resolve, 20));
  if (marks()) marks().toJSON = () => [];
}

export function showMarks(name, marks) {
  const annotations = window.viewer.layerManager.getLayerByName(name)?.layer?.localAnnotations;
  annotations?.clear();
  annotations?.restoreState(annotationsOf(marks));
}
