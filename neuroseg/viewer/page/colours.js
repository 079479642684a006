// The colours of the figures. They are not a part of the address: there are too many, and the page sets them anew.
import { base } from "./start.js";

export async function setColours() {
  const response = await fetch(`${base}/colours`);
  if (!response.ok) return;
  for (const [name, colours] of Object.entries(await response.json())) {
    const layer = window.viewer.layerManager.getLayerByName(name)?.layer;
    if (layer) colour(layer.displayState.segmentationColorGroupState.value, colours);
  }
}

function colour(state, colours) {
  const chosen = state.segmentStatedColors, toJSON = state.toJSON.bind(state);
  for (const [id, packed] of Object.entries(colours)) {
    // A colour that the user chose is a part of the address. It stays.
    if (chosen.get(BigInt(id)) === undefined) chosen.set(BigInt(id), BigInt(packed));
    else delete colours[id];
  }
  state.toJSON = () => {
    const json = toJSON();
    for (const id of Object.keys(colours)) {
      if (chosen.get(BigInt(id)) === BigInt(colours[id])) delete json.segmentColors?.[id];
    }
    if (json.segmentColors && !Object.keys(json.segmentColors).length) delete json.segmentColors;
    return json;
  };
}
