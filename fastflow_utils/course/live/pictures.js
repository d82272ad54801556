// Pictures with outlines: what threshold, mixer and browser share.

// The numbers of one of several maps, which stand one after the other.
const part = (numbers, at, count) =>
  numbers.subarray(at * numbers.length / count, (at + 1) * numbers.length / count);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const percent = (share) => `${100 * share}%`;
const put = (element, attributes) => {
  for (const name in attributes) element.setAttribute(name, attributes[name]);
};
const add = (root, tag, properties) => {
  const element = make(tag, properties);
  root.append(element);
  return element;
};

// The pictures, and for each the outline of its mask, as `picture` draws it.
const load = async ({ masks, pictures, size, green }) => {
  const [numbers, ...images] = await Promise.all([unpack(masks), ...pictures.map(decoded)]);
  return [images, (at) => [part(numbers, at, images.length), size[1], 0.5, green, 0]];
};

// A picture or a chart under a title that `say` changes.
const panel = (root, inside) => {
  const figure = add(root, "figure", { innerHTML: `<figcaption></figcaption>${inside}` });
  const [title, body] = figure.children;
  return { body, say: (text) => {
    title.textContent = text;
    put(body, { role: "img", "aria-label": text });
  } };
};

// A small canvas with a pixel for each number, of the colour [red, green, blue, alpha].
const coloured = (numbers, columns, colour) => {
  const canvas = make("canvas", { width: columns, height: numbers.length / columns });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, canvas.height);
  numbers.forEach((number, i) => pixels.data.set(colour(number), 4 * i));
  context.putImageData(pixels, 0, 0);
  return canvas;
};

// The line along which numbers reach a level, in their columns and rows. Each square of four is
// two triangles; where the line cuts a triangle, it cuts two of its sides.
const contour = (numbers, columns, level) => {
  const path = new Path2D(), over = (at) => numbers[at] >= level;
  for (let i = 0; i + columns + 1 < numbers.length; i++) {
    const x = i % columns, y = i / columns | 0, is = over(i);
    if (x === columns - 1 || is === over(i + 1) && is === over(i + columns)
      && is === over(i + columns + 1)) continue;
    for (const triangle of [[[0, 0], [1, 0], [0, 1]], [[1, 1], [1, 0], [0, 1]]]) {
      let pen = "moveTo";
      triangle.forEach(([a, b], k) => {
        const [c, d] = triangle[(k + 1) % 3], from = numbers[i + a + columns * b] - level;
        const to = numbers[i + c + columns * d] - level, share = from / (from - to);
        if (from >= 0 === to >= 0) return;
        path[pen](x + a + share * (c - a), y + b + share * (d - b));
        pen = "lineTo";
      });
    }
  }
  return path;
};

// Below a title, an image and lines around what reaches a level. A line: numbers, columns, level,
// colour, and the opacity of the same colour inside.
const picture = (root, [height, width]) => {
  const { body, say } = panel(root, `<canvas width="${width}" height="${height}"></canvas>`);
  const context = body.getContext("2d");
  return (text, image, ...lines) => {
    say(text);
    context.drawImage(image, 0, 0, width, height);
    for (const [numbers, columns, level, colour, alpha] of lines) {
      const path = contour(numbers, columns, level), scale = width / columns;
      const inside = [...colour, 255 * alpha], outside = [0, 0, 0, 0];
      if (alpha) context.drawImage(coloured(numbers, columns, (value) =>
        value >= level ? inside : outside), 0, 0, width, height);
      context.setTransform(scale, 0, 0, scale, scale / 2, scale / 2);
      for (const [stroke, wide] of [["#000", 5], [`rgb(${colour})`, 2.5]]) {
        Object.assign(context, { strokeStyle: stroke, lineWidth: wide / scale, lineCap: "round" });
        context.stroke(path);
      }
      context.resetTransform();
    }
  };
};
