// The feature explorer: touch position A of an image, and see all levels of a network at once.
// A and B are fractions [y, x] of the image, so they mean the same on every level.

const clamp = (value, most) => Math.max(0, Math.min(most, value));

const dot = (a, b) => {
  let sum = 0;
  for (let c = 0; c < a.length; c++) sum += a[c] * b[c];
  return sum;
};

// Read each item of a list, once.
const read = (list, each) => list.read ??= Promise.all(list.map(each));

// From 8-bit numbers (explorer.py says of what) to a unit vector for each position, so that a
// cosine is one dot product, to the vector's length, and to the PCA colours.
const readLevel = async ({ size: [rows, columns], q, low, step, axes, offset, name }) => {
  const numbers = await unpack(q), count = rows * columns, channels = low.length - 1;
  const at = (c, i) => low[c] + step[c] * numbers[c * count + i];
  const colours = new Uint8ClampedArray(4 * count).fill(255), units = [], lengths = [];
  for (let i = 0; i < count; i++) {
    const vector = new Float32Array(channels).map((_, c) => at(c, i));
    const norm = Math.sqrt(dot(vector, vector));  // 1, or near 0 where all features are 0:
    units.push(vector.map((value) => norm < 0.5 ? 0 : value / norm));  // these resemble nothing
    lengths.push(Math.exp(at(channels, i)));
    axes.forEach((axis, k) => {
      colours[4 * i + k] = 255 * (offset[k] + lengths[i] * dot(axis, units[i]));
    });
  }
  return { rows, columns, channels, units, lengths, colours, name };
};

const readMap = async ({ q, low, step }) =>
  Array.from(await unpack(q), (number) => low + step * number);

live.kinds.features = async (root, data) => {
  const tables = await read(data.tables, async ({ colours }) =>
    new Uint32Array((await unpack(colours)).buffer));
  const places = [], channel = [];
  let moving = 0, now, levels, panels;

  const [head, body, left, right, plots] = ["", "features", "image", "levels", "plots"].map(
    (name) => make("div", { className: `live-${name}` }));
  const chosen = (label, labels) =>  // a menu of one would be none
    menu(labels.length > 1 ? head : make("p"), { label, labels }, () => choose());
  const image = chosen("image", data.images.map(({ name }) => name));
  const view = chosen(data.views.label, data.views.labels);
  const name = `live-${Math.random()}`;
  const which = make("fieldset", {}, make("legend", { textContent: "Touch or keys move" }),
    ...[..."AB"].map((place, k) => make("label", {}, make("input", { type: "radio", name,
      checked: !k, onchange: () => { moving = k; draw(); } }),
    make("b", { className: `live-${place}`, textContent: place }))));
  body.append(left, right, plots);
  root.append(head, body, make("p", { className: "live-note", textContent: data.note }));

  const index = ({ rows, columns }, [y, x]) =>
    Math.floor(y * rows) * columns + Math.floor(x * columns);
  const move = (...place) => {
    places[moving] = place.map((one) => clamp(one, 0.9999));
    draw();
  };

  // Numbers as colours, and beneath them the range of the colours.
  const paint = ({ canvas, scale }, values, low, high, table = 0, sign = "") => {
    const picture = new ImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(picture.data.buffer), unit = 256 / (high - low || 1);
    pixels.forEach((_, i) => {
      pixels[i] = tables[table][clamp(Math.floor(unit * (values[i] - low)), 255)];
    });
    canvas.getContext("2d").putImageData(picture, 0, 0);
    scale.replaceChildren(sign + low.toFixed(1),
      make("i", { style: `background: ${data.tables[table].bar}` }), high.toFixed(1));
  };

  // A canvas with the mask's outline and the rings, which can be touched and has arrow keys.
  const panel = (into, level, text) => {
    const canvas = make("canvas", { width: level.columns, height: level.rows, tabIndex: 0,
      role: "application", "aria-label": `${text}, ${level.name}. Arrow keys move the ring` });
    const rings = [..."AB"].map((name) => make("i", { className: `live-ring live-${name}` }));
    const box = make("div", { className: "live-box", innerHTML: now.outline });
    const scale = make("div", { className: "live-scale" });
    box.prepend(canvas);
    box.append(...rings);
    into.append(make("figure", {}, box, make("figcaption", { textContent: text }), scale));
    drag(canvas, (x, y) => move(y, x));
    canvas.onkeydown = (event) => {
      const key = ["ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"].indexOf(event.key);
      if (key < 0) return;
      event.preventDefault();
      const { rows, columns } = event.shiftKey ? levels.at(-1) : level, [y, x] = places[moving];
      const by = key > 1 ? 1 : -1;
      if (key % 2) move(y, x + by / columns);
      else move(y + by / rows, x);
    };
    panels.push([rings, level]);
    return { canvas, scale };
  };

  const choose = async () => {
    const one = data.images[image.value], views = one.views[view.value];
    const [picture, ready, maps] = await Promise.all([decoded(one.picture),
      read(views, readLevel), read(one.maps, (map) => read(map, readMap))]);
    if (one !== data.images[image.value] || views !== one.views[view.value]) return;
    if (now !== one)  // B starts opposite to A, and not on it
      places.splice(0, 2, one.start, one.start.map((at) => at === 0.5 ? 0.25 : 1 - at));
    now = one;
    levels = root.levels = ready;
    panels = [];
    for (const part of [left, right, plots]) part.replaceChildren();
    const { canvas } = panel(left, levels[0], `${data.title}, ${now.name}`);
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    left.append(which);
    plots.append(make("h4", { textContent: "All channels of A and B" }));
    levels.forEach((level, l) => {
      const { rows, columns, channels, colours, name } = level;
      const row = make("div", { className: "live-panels" });
      level.said = make("output", { "aria-live": "polite" });
      right.append(make("h4", { textContent:
        `${name}: ${rows} × ${columns}, ${channels} channels` }), level.said, row);
      level.alike = panel(row, level, "similarity to A");
      panel(row, level, "PCA colours").canvas.getContext("2d").putImageData(
        new ImageData(colours, columns, rows), 0, 0);
      level.alone = panel(row, level, "one channel");
      const labels = Array.from({ length: channels }, (_, c) => c);
      channel[l] = clamp(channel[l] ?? 0, channels - 1);
      slider(right, { label: "channel", labels, value: channel[l] }, (to) => {
        channel[l] = to;
        draw();
      });
      level.maps = maps.map((map, m) => {
        const { text, low = Math.min(...map[l]), high = Math.max(...map[l]), table, sign } =
          data.maps[m];
        paint(panel(row, level, text), map[l], low, high, table, sign);
        return map[l];
      });
      plots.append(level.plot = make("figure", { innerHTML: `<svg role="img" aria-label="${name}:
        all channels of A and B" viewBox="-0.5 -1.05 ${channels} 2.1" preserveAspectRatio="none">
        <rect width="1" height="3" y="-1.5"/><path d="M-1 0H${channels}"/><polyline
        class="live-A"/><polyline class="live-B"/></svg><figcaption></figcaption>` }));
    });
    draw();
  };

  const draw = once(() => {
    const last = levels.map((level) => level.maps.at(-1)?.[index(level, places[0])]);
    const sum = last.reduce((a, b) => a + b) || 1;
    levels.forEach((level, l) => {
      const { units, lengths, plot, name } = level, c = channel[l];
      const [a, b] = places.map((place) => index(level, place));
      level.cosines = units.map((unit) => dot(unit, units[a]));
      paint(level.alike, level.cosines, 0, 1, 0, "≤ ");
      const values = units.map((unit, i) => unit[c] * lengths[i]);
      paint(level.alone, values, Math.min(...values), Math.max(...values));
      const count = level.cosines.filter((cosine) => cosine > 0.5).length;
      level.said.textContent = `${count} of ${units.length} resemble A (cosine > 0.5)\n` +
        data.maps.map(({ short }, m) => `${short} ${level.maps[m][a].toFixed(2)} · `).join("") +
        (last[l] >= 0 ? `${(100 * last[l] / sum).toFixed()} % of the map` : "");
      const curves = [a, b].map((i) => Array.from(units[i], (value) => value * lengths[i]));
      const most = Math.max(...curves.flat().map(Math.abs));
      curves.forEach((curve, k) => plot.querySelectorAll("polyline")[k].setAttribute("points",
        curve.map((value, at) => `${at},${-value / most}`).join(" ")));
      plot.querySelector("rect").setAttribute("x", c - 0.5);
      plot.lastChild.textContent =
        `${name}: cosine ${level.cosines[b].toFixed(2)}, up to ±${most.toPrecision(2)}`;
    });
    for (const [rings, { rows, columns }] of panels)
      rings.forEach(({ style, classList }, k) => {
        const [y, x] = places[k];
        classList.toggle("live-rests", k !== moving);
        style.top = `${100 * (Math.floor(y * rows) + 0.5) / rows}%`;
        style.left = `${100 * (Math.floor(x * columns) + 0.5) / columns}%`;
        style.width = `${Math.max(8, 250 / columns)}%`;
      });
  }, root);

  await choose();
};
