// Charts that answer a touch: what threshold and mixer share.

// A drawing in percent over the names of its axes; `touched` gets where, from 0 to 1, upwards.
const chart = (root, title, inside, axes, touched) => {
  const { body, say } = panel(root, `<svg class="live-chart">${inside}</svg>${axes}`);
  say(title);
  drag(body, (x, y) => touched(x, 1 - y));
  return body;
};

// The scores of all images from `low` to `high`, a mark that stays, and a line that moves. Who
// touches an image chooses it.
const strip = (root, { labels, colours, order, axis }, [low, high], mark, picker, touched) => {
  const at = (value) => percent((value - low) / (high - low));
  const body = chart(root, "image scores: ● good, ▲ anomalous; touch one to see it", `<line
    class="thin" y2="100%" x1="${at(mark)}" x2="${at(mark)}"/><line y2="100%"/>` +
    labels.map((label, i) => `<text fill="rgb(${colours[label]})" y="${
      percent(0.87 - label / 2 - i * 0.618 % 1 / 4)}">${"●▲"[label]}</text>`).join(""),
  `${axis}, ${low.toFixed(1)} to ${high.toFixed(1)}`, (x) => touched(low + x * (high - low)));
  const [, line, ...dots] = body.children;
  dots.forEach((dot, i) => {
    dot.onpointerdown = (event) => event.stopPropagation();
    dot.onclick = () => order.includes(i) && (picker.value = order.indexOf(i));
  });
  return (scores, chosen, value) => {
    put(line, { x1: at(value), x2: at(value) });
    dots.forEach((dot, i) => put(dot, { x: at(scores[i]), class: i === chosen ? "chosen" : "" }));
  };
};
