// Frames drawn beforehand (frames.py): the controls choose one, tiles make its picture.
live.kinds.frames = async (root, data, still) => {
  const { size: [width, height], tile, pitch, across, groups } = data;
  root.classList.add("live-frames");
  const canvas = make("canvas", { width, height, role: "img" });
  canvas.style.width = `${width / 2}px`;  // drawn for screens of two pixels to one
  const pen = canvas.getContext("2d", { alpha: false });

  const tiles = [];  // by number: the sheet that it is in, and where
  for (const [picture, count] of await Promise.all(
    data.sheets.map(async ([address, many]) => [await decoded(address), many])))
    for (let i = 0; i < count; i++)
      tiles.push([picture, pitch * (i % across), pitch * Math.floor(i / across)]);
  for (const group of groups) group.tiles = new Int32Array((await unpack(group.tiles)).buffer);
  const seen = new TextDecoder().decode(await unpack(data.seen)).split("\n");
  await still.decode();
  pen.drawImage(still, 0, 0, width, height);

  const index = (members) => members.reduce(
    (sum, one) => sum * data.controls[one].labels.length + +inputs[one].value, 0);
  const everything = data.controls.map((_, one) => one);
  const columns = Math.ceil(width / tile);
  const draw = once(() => {
    for (const { controls, places, tiles: numbers } of groups) {
      const first = index(controls) * places.length;
      places.forEach((place, i) => {
        const [picture, x, y] = tiles[numbers[first + i]];
        pen.drawImage(picture, x, y, tile, tile,
          tile * (place % columns), tile * Math.floor(place / columns), tile, tile);
      });
    }
    const values = data.controls.map(
      ({ label, labels }, one) => `${label} ${labels[inputs[one].value]}`);
    canvas.setAttribute("aria-label", [seen[index(everything)], ...values].join("; "));
  }, root);
  const inputs = data.controls.map((control) =>
    (control.order ? slider : menu)(root, control, draw));
  const box = still.parentNode;  // the page's: it scrolls where the window is narrow
  still.replaceWith(canvas);
  root.append(box);
  draw();
};
