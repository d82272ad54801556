// Level maps of a test split, weighed, mixed and scored.
live.kinds.mixer = async (root, data) => {
  const { labels, levels, order, columns, inferno } = data;
  const [[images, outline], ...maps] = await Promise.all([load(data), ...data.maps.map(unpack)]);
  const parts = (image) => maps.map((all) => part(all, image, labels.length));
  const mix = (image, shares) => {
    const mixed = new Float32Array(maps[0].length / labels.length);
    parts(image).forEach((map, l) => {
      for (let i = 0; i < map.length; i++) mixed[i] += shares[l] * map[i];
    });
    return mixed;
  };
  const score = (map) => {
    const best = new Float32Array(data.top);  // the highest values, in ascending order
    for (const value of map) if (value > best[0]) {
      let i = 1;
      for (; best[i] < value; i++) best[i - 1] = best[i];
      best[i - 1] = value;
    }
    return mean(best) / 255;
  };
  const redraw = once(() => {
    const at = picker.value, image = order[at], weights = sliders.map((one) => one.value);
    const shares = weights.map((one) => one / (mean(weights) * levels.length || 1));
    const scores = labels.map((_, i) => score(mix(i, shares)));
    views[0](data.names[at], images[at], outline(at));
    [mix(image, shares), ...parts(image)].forEach((map, k) =>
      views[k + 1](k ? `${levels[k - 1]}: ${Math.round(100 * shares[k - 1])} %` : "mixture",
        coloured(map, columns, (value) => inferno[Math.round(value)]), outline(at)));
    move(scores, image, scores[image]);
    const [good, bad] = [0, 1].map((label) => scores.filter((_, i) => labels[i] === label));
    told.textContent = `image AUROC ${mean(bad.flatMap((high) =>
      good.map((low) => (1 + Math.sign(high - low)) / 2))).toFixed(3)} for this mixture`;
  }, root);
  const picker = slider(root, { label: "image", labels: data.names, value: data.start }, redraw);
  const sliders = levels.map((name) => slider(root, { label: `weight, ${name}`, value: 20,
    labels: Array.from({ length: 21 }, (_, k) => (k / 20).toFixed(2)) }, redraw));
  const told = add(root, "p", { ariaLive: "polite" });
  const row = add(root, "div", { className: "live-row" });
  const views = ["", "", ...levels].map(() => picture(row, data.size));
  add(root, "div", { className: "live-scale", innerHTML: `anomaly map: 0<i style="background:
    linear-gradient(90deg,${inferno.map((one) => `rgb(${one.slice(0, 3)})`)})"></i>1` });
  // No image threshold is of a mixture: its mark lies far outside.
  const move = strip(root, data, [0, 1], -99, picker, () => {});
  add(root, "p", { className: "live-note", textContent: data.note });
  redraw();
};
