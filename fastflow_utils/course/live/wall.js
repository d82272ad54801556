// The wall: a category picked, its test images in the order of their scores, and a threshold
// between them. The figures that the page came with become buttons.
live.kinds.wall = async (root, data, still) => {
  const { detectors, categories, side, columns } = data;
  const figures = [...still.closest(".wall").querySelectorAll("figure")];
  let picked = null, detector = 0, order = [];

  const wall = make("div", { className: "wall-tiles", role: "group", "aria-label": "Categories" });
  const tiles = figures.map((figure, number) => {
    const [image, caption] = figure.children;
    const tile = make("button", { type: "button", "aria-pressed": false },
      image, make("span", { className: "wall-name" }, ...caption.childNodes));
    tile.addEventListener("click", () => pick(number));
    wall.append(tile);
    figure.remove();
    return tile;
  });
  const heading = make("h2", { className: "wall-title" });
  const controls = make("div");
  const images = make("div", { className: "wall-images", role: "img", tabIndex: 0 });
  const counts = make("div", { className: "wall-counts", "aria-live": "polite" });
  const panel = make("section", { className: "wall-panel", hidden: true }, heading, controls,
    images, legend(), counts);
  root.append(wall, panel);
  document.querySelector(".wall-hint").hidden = false;

  menu(controls, { label: "Detector", labels: detectors }, (to) => {
    detector = to;
    say();
    sort();
  });
  const moves = slider(controls, { label: "Threshold", labels: ["", ""] }, (to) => cut(to));

  // The number of the images that a slider's place calls good, against their score.
  const scores = () => picked.scores[detector];
  const limit = (place) => place < order.length ? scores()[order[place]] : Infinity;

  const pick = async (number) => {
    picked = categories[number];
    tiles.forEach((tile, other) => tile.setAttribute("aria-pressed", other === number));
    heading.textContent = `${picked.name}, sample set`;
    picked.drawn ??= await decoded(picked.sheet);
    if (picked !== categories[number]) return;  // another one was picked while this was decoded
    panel.hidden = false;
    sort();
    panel.scrollIntoView({ block: "nearest" });  // it stands below fifteen tiles
  };

  // Order the images anew and start where F1 is highest.
  const sort = () => {
    if (!picked) return;
    const { labels } = picked;
    order = labels.map((_, image) => image).sort((one, other) => scores()[one] - scores()[other]);
    images.replaceChildren(...order.map(thumbnail));
    const places = [...order.keys(), order.length];
    moves.labels = places.map((place) => place < order.length
      ? `score ≥ ${short(limit(place))}` : "above every score");
    const found = places.map((place) => f1(count(limit(place))));
    picked.best = Math.max(...found);
    moves.value = found.indexOf(picked.best);
  };

  const thumbnail = (image, place) => {
    const name = `${picked.images[image]}, score ${short(scores()[image])}`;
    const canvas = make("canvas", { width: side, height: side });
    const x = image % columns * side, y = Math.floor(image / columns) * side;
    canvas.getContext("2d").drawImage(picked.drawn, x, y, side, side, 0, 0, side, side);
    const item = make("div", { title: name, className: picked.labels[image] ? "anomalous" : "good" },
      canvas);
    item.addEventListener("click", () => { moves.value = place; });
    return item;
  };

  const count = (from) => {
    const sums = { found: 0, missed: 0, alarms: 0, passed: 0 };
    picked.labels.forEach((label, image) => {
      const called = scores()[image] >= from;
      sums[label ? (called ? "found" : "missed") : called ? "alarms" : "passed"]++;
    });
    return sums;
  };

  const cut = (place) => {
    if (!picked) return;
    const threshold = limit(place);
    const { found, missed, alarms, passed } = count(threshold);
    let first = true;
    [...images.children].forEach((item, at) => {
      const called = scores()[order[at]] >= threshold;
      item.classList.toggle("called", called);
      item.classList.toggle("wrong", called !== (picked.labels[order[at]] === 1));
      item.classList.toggle("first", called && first);
      first &&= !called;
    });
    images.setAttribute("aria-label", `${order.length} test images of ${picked.name} from the `
      + `lowest score to the highest; ${found + alarms} are called anomalous: ${found} of `
      + `${found + missed} defects, ${alarms} of ${alarms + passed} good ones`);
    counts.replaceChildren(
      table(found, missed, alarms, passed),
      make("p", {}, `F1 ${f1({ found, missed, alarms }).toFixed(3)} (the highest is `
        + `${picked.best.toFixed(3)}, an oracle's: its threshold looks at the labels). Image AUROC `
        + `${auroc().toFixed(3)}, at every threshold.`));
  };

  // The wall's numbers are the chosen detector's.
  const say = () => tiles.forEach((tile, number) => {
    tile.querySelector("span span").textContent = `AUROC ${auroc(categories[number]).toFixed(3)}`;
  });

  // Of all pairs of an anomalous and a good image, the share that is in order.
  const auroc = ({ labels, scores: all } = picked) => {
    const of = (label) => all[detector].filter((_, image) => labels[image] === label);
    const good = of(0), anomalous = of(1);
    const won = anomalous.map((high) => good.reduce(
      (sum, low) => sum + (high > low ? 1 : high === low ? 0.5 : 0), 0));
    return won.reduce((sum, one) => sum + one, 0) / (good.length * anomalous.length);
  };

  images.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    moves.value = Math.min(Math.max(moves.value + step, 0), order.length);
  });
};

const f1 = ({ found, missed, alarms }) => 2 * found / (2 * found + missed + alarms);

const short = (score) => Math.abs(score) >= 100 ? score.toFixed(0) : score.toPrecision(3);

const table = (found, missed, alarms, passed) => {
  const row = (kind, name, ...cells) => make(kind, {}, make("tr", {},
    kind === "thead" ? make("td") : make("th", { scope: "row", textContent: name }),
    ...cells.map((cell) => make(kind === "thead" ? "th" : "td", { textContent: cell }))));
  return make("table", {}, row("thead", "", "called good", "called anomalous"),
    row("tbody", "good", passed, `${alarms} (false alarms)`),
    row("tbody", "anomalous", `${missed} (missed)`, found));
};

const legend = () => make("p", { className: "wall-legend" },
  make("i", { className: "good" }), " good ", make("i", { className: "anomalous" }),
  " anomalous: what the image is. Left of the bar, faded, is called good; ✕ marks what is called "
  + "wrong. A score has no unit, FastFlow's is a sum of two parts: read it as a rank. Scores of "
  + "different categories or detectors do not compare, AUROC does.");
