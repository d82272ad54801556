// Two thresholds, and all that hangs on them, from the scores, maps and masks of a test split.
live.kinds.threshold = async (root, data) => {
  const { scores, labels, order, own, ends, size, colours } = data;
  const [[images, outline], maps] = await Promise.all([load(data), unpack(data.maps)]);
  // A slider stands at one of 400 even steps, at a score, or at the model's own threshold.
  const stops = (low, high, ...more) => [...new Set(more.concat(
    Array.from({ length: 401 }, (_, k) => low + k * (high - low) / 400)))].sort((a, b) => a - b);
  const thresholds = stops(...ends, own[0], data.start, ...scores), levels = stops(0, 1, own[1]);
  // Scores have 32 bits, and so has what they are compared with.
  const called = (image, k) => scores[image] >= Math.fround(thresholds[k]);
  const decided = thresholds.map((_, k) => {
    const counts = [0, 0, 0, 0];
    labels.forEach((label, image) => { counts[2 * label + called(image, k)] += 1; });
    const [passed, alarms, missed, found] = counts;
    return { passed, alarms, missed, found, fpr: alarms / (alarms + passed),
      recall: found / (found + missed), precision: alarms + found ? found / (alarms + found) : 1,
      f1: 2 * found / (2 * found + missed + alarms) };
  });
  const redraw = once(() => {
    const at = picker.value, image = order[at], k = limit.value, now = decided[k];
    view(`score ${scores[image].toFixed(2)}: called ${called(image, k) ? "anomalous" : "good"}`,
      images[at], [part(maps, at, images.length), data.columns, 255 * levels[level.value],
        colours[1], 0.5], outline(at));
    move(scores, image, thresholds[k]);
    points.forEach((place) => place(now));
    table.innerHTML = `<tr><td><th>called anomalous<th>called good<tr><th>anomalous<td>${
      now.found} found<td>${now.missed} missed<tr><th>good<td>${now.alarms} false alarms<td>${
      now.passed} passed`;
    const [recall, fpr, precision, f1] = ["recall", "fpr", "precision", "f1"].map((name) =>
      now[name].toFixed(3));
    told.textContent = `true-positive rate (recall) ${recall}, false-positive rate ${fpr}, ` +
      `precision ${precision}, F1 ${f1}`;
  }, root);
  const numbers = (label, values, value, digits) => slider(root, { label,
    value: values.indexOf(value), labels: values.map((one) => one.toFixed(digits)) }, redraw);
  const limit = numbers("image threshold", thresholds, data.start, 2);
  const level = numbers("pixel threshold", levels, own[1], 3);
  const picker = slider(root, { label: "image", labels: data.names }, redraw);
  add(root, "button", { type: "button", textContent: "model's thresholds" }).onclick = () => {
    limit.value = thresholds.indexOf(own[0]);
    level.value = levels.indexOf(own[1]);
  };
  const nearest = (distance) => {
    const all = thresholds.map(distance);
    limit.value = all.indexOf(Math.min(...all));
  };
  const row = add(root, "div", { className: "live-row" });
  const view = picture(row, [2 * size[0], 2 * size[1]]), chance = mean(labels);
  const points = [
    ["ROC curve: AUROC", "true-positive rate → false-positive rate", "fpr", "recall", 0, 1],
    ["precision-recall curve: AP", "precision → recall", "recall", "precision", chance, chance],
  ].map(([title, axes, x, y, from, to], k) => {
    const place = (dot, one) => put(dot, { cx: percent(one[x]), cy: percent(1 - one[y]) });
    const body = chart(row, `${title} ${data.areas[k].toFixed(3)}`, `<line class="thin" x2="100%"
      y1="${percent(1 - from)}" y2="${percent(1 - to)}"/><svg viewBox="0 0 1 1"
      preserveAspectRatio="none"><polyline points="${decided.map((one) => [one[x], 1 - one[y]])
      }"/></svg><circle r="7" class="own"/><circle r="7"/>`, `↑ ${axes}`, (right, above) =>
      nearest((_, at) => Math.hypot(decided[at][x] - right, decided[at][y] - above)));
    place(body.children[2], decided[thresholds.indexOf(own[0])]);
    return (now) => place(body.lastChild, now);
  });
  const move = strip(root, data, ends, own[0], picker, (value) =>
    nearest((one) => Math.abs(one - value)));
  const table = add(root, "table"), told = add(root, "p", { ariaLive: "polite" });
  add(root, "p", { className: "live-note", textContent: data.note });
  redraw();
};
