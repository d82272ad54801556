// A place for one's own pictures in JupyterLab: dropped, chosen or taken by the camera. It keeps
// the files, tells the kernel their names, and sends the parts that the kernel asks for.
const PART = 2 ** 21;  // bytes of a message; Jupyter's server closes the line above 10 MB
const MOST = 5000;  // files of a folder that are listed

const PLACE = `
  <p>Drop pictures or a folder here, or
    <button type="button" data-does="files">choose pictures</button>
    <button type="button" data-does="folder">choose a folder</button>
    <button type="button" data-does="camera">use the camera</button></p>
  <p class="own-rules"></p>
  <input type="file" multiple hidden aria-label="pictures">
  <input type="file" webkitdirectory hidden aria-label="a folder of pictures">
  <div class="own-camera" hidden>
    <video playsinline muted aria-label="what the camera sees"></video>
    <button type="button" data-does="take">take the picture</button>
    <button type="button" data-does="stop">stop the camera</button>
  </div>
  <progress max="1" hidden aria-label="pictures judged"></progress>
  <p class="own-status" role="status"></p>`;

// List the files of a dropped file or folder, each with its path.
const walk = async (entry, found) => {
  if (found.length >= MOST) return;
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ file, name: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {  // it reads a hundred at a time
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
};

// A folder must be asked for while the event lasts; a file is there in any case.
const dropped = (transfer) =>
  [...transfer.items].filter((item) => item.kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory ? entry : item.getAsFile();
  });

const listed = async (given) => {
  const found = [];
  for (const one of given)
    if (one instanceof File) found.push({ file: one, name: one.webkitRelativePath || one.name });
    else await walk(one, found);
  return found.slice(0, MOST);
};

const CAMERA = {
  NotAllowedError: "the browser may not use the camera: allow it, or choose a file",
  NotFoundError: "there is no camera: choose a file",
  NotReadableError: "the camera is in use elsewhere: close what uses it, or choose a file",
};

export default {
  render({ model, el }) {
    const place = document.createElement("div");
    place.className = "own-drop";
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", "your own pictures");
    place.dataset.lmSuppressShortcuts = "true";  // Enter presses a button here
    place.innerHTML = PLACE;
    el.append(place);
    const one = (selector) => place.querySelector(selector);
    const [files, folder] = place.querySelectorAll("input");
    const [camera, video, progress] = [one(".own-camera"), one("video"), one("progress")];
    const say = (text) => { one(".own-status").textContent = text; };

    // To the kernel: the names at once, the bytes when it asks.
    let batch = null;
    let offered = [];
    const offer = async (given) => {
      say("looking …");
      try {
        offered = await listed(given);
      } catch (error) {
        return say(`the files cannot be read: ${error.message}`);
      }
      batch = crypto.randomUUID?.() ?? String(Math.random());
      const list = offered.map(({ file, name }) => ({ name, size: file.size }));
      say("waiting for the kernel …");
      model.send({ batch, offer: list, full: offered.length === MOST });
    };
    const answer = async (asked) => {
      if (asked.batch !== batch) return;  // of another view, or of what was dropped before
      const { file } = offered[asked.ask];
      try {
        const part = await file.slice(asked.start, asked.start + PART).arrayBuffer();
        model.send({ batch }, undefined, [part]);
      } catch (error) {
        model.send({ batch, error: error.message });
      }
    };
    const follow = () => {
      say(model.get("status"));
      progress.value = model.get("progress");
      progress.hidden = progress.value >= 1;
    };
    model.on("msg:custom", answer);
    model.on("change:status change:progress", follow);

    let stream = null;
    const stop = () => {
      stream?.getTracks().forEach((track) => track.stop());
      stream = video.srcObject = null;
      camera.hidden = true;
    };
    const does = {
      files: () => files.click(),
      folder: () => folder.click(),
      camera: async () => {
        if (stream) return;
        if (!navigator.mediaDevices)
          return say("the camera needs a page at localhost or https: choose a file");
        say("asking for the camera …");
        try {
          const wanted = { facingMode: "environment", width: { ideal: 1920 } };
          stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
          video.srcObject = stream;
          await video.play();
          camera.hidden = false;
          say("");
          one("[data-does=take]").focus();
        } catch (error) {
          stop();
          say(CAMERA[error.name] ?? `the camera does not start: ${error.message}`);
        }
      },
      take: () => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        canvas.getContext("2d").drawImage(video, 0, 0);
        does.stop();
        canvas.toBlob((blob) => offer([new File([blob], "camera.png")]), "image/png");
      },
      stop: () => {
        stop();
        one("[data-does=camera]").focus();
      },
    };
    place.addEventListener("click", ({ target }) => does[target.dataset.does]?.());
    for (const input of [files, folder])
      input.addEventListener("change", () => {
        const given = [...input.files];
        input.value = "";  // so that the same file can be chosen again
        offer(given);
      });

    const drag = (name, act) => place.addEventListener(name, (event) => {
      event.preventDefault();
      event.stopPropagation();
      place.classList.toggle("over", name === "dragover");
      act?.(event);
    });
    drag("dragenter");
    drag("dragover", (event) => { event.dataTransfer.dropEffect = "copy"; });
    drag("dragleave");
    drag("drop", (event) => offer(dropped(event.dataTransfer)));

    const near = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    one(".own-rules").textContent = `${model.get("rules")} ${near
      ? "Nothing is written to disk, and nothing leaves this machine."
      : `Nothing is written to disk; they go to the kernel of this page's server, `
        + `${location.host}, and nowhere else.`}`;
    files.accept = model.get("accept");
    follow();
    return () => {
      stop();
      model.off("msg:custom", answer);
      model.off("change:status change:progress", follow);
    };
  },
};
