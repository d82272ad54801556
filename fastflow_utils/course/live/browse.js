// Images of all categories, with their outlines. In a page alone, as only some pictures travel.
live.kinds.browse = async (root, data) => {
  const [images, outline] = await load(data), groups = Object.values(data.groups);
  const labels = () => groups[category.value].map((at) => data.names[at]);
  const redraw = once(() => {
    const at = groups[category.value][picker.value];
    views[0](data.names[at], images[at]);
    views[1](data.shares[at], images[at], outline(at));
  }, root);
  const category = slider(root, { label: "category", labels: Object.keys(data.groups),
    value: data.start }, () => {
    picker.labels = labels();
    picker.value = 0;
  });
  const picker = slider(root, { label: "image", labels: labels() }, redraw);
  const row = add(root, "div", { className: "live-row" });
  const views = [0, 1].map(() => picture(row, data.size));
  add(root, "p", { className: "live-note", textContent: data.note });
  redraw();
};
