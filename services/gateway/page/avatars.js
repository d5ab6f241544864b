/** Choice of an avatar, and the upload of a photo or video for a new one. */

import { api, Problem, unreachable } from "./api.js";
import { byId, hideNotice, showNotice, showProblem, showSection, showStatus } from "./ui.js";

const POLL_MS = 300;

export class AvatarPicker {
  /**
   * @param {object} options
   * @param {(avatarId: string) => Promise<void>} options.onChosen
   * @param {() => boolean} options.hasConversation true if there is a conversation to go back to
   */
  constructor({ onChosen, hasConversation }) {
    this.onChosen = onChosen;
    this.hasConversation = hasConversation;
    /** @type {AbortController | null} */
    this.upload = null;
  }

  /**
   * Shows the avatars of the server.
   * @param {{back?: boolean}} [options] `back` offers the way back to the conversation
   * @returns {Promise<any[]>} all avatars
   */
  async show({ back = false } = {}) {
    const { avatars } = await api.get("/v1/avatars");
    showSection("setup");
    showStatus("Choose a face");
    byId("setup-back").hidden = !back;
    const usable = avatars.some((avatar) => avatar.state === "ready");
    byId("setup-title").textContent = usable ? "Who should speak?" : "No face yet";
    byId("setup-text").textContent = usable
      ? "Choose a face, or bring your own."
      : "Upload a photo or a short video of one person, and it will speak.";
    byId("faces").replaceChildren(...avatars.map((avatar) => this.#createItem(avatar)));
    return avatars;
  }

  /**
   * Uploads a file, follows the build of the avatar, and chooses the avatar.
   * @param {File} file
   */
  async create(file) {
    const maxMb = api.config.max_upload_mb;
    if (file.size > maxMb * 1048576) {
      showNotice("This file is too large.", `Send at most ${maxMb} MB; a few seconds are enough.`);
      return;
    }
    hideNotice();
    byId("making").hidden = false;
    byId("drop").hidden = true;
    this.upload = new AbortController();
    const { signal } = this.upload;
    try {
      const { avatars } = await api.get("/v1/avatars");
      const id = unusedId(file.name, new Set(avatars.map((avatar) => avatar.avatar_id)));
      await this.onChosen(await followBuild(await uploadFile(file, id, signal), signal));
    } catch (error) {
      if (error.name !== "AbortError") showProblem(error, "Choose another file", () => byId("file").click());
      await this.show({ back: this.hasConversation() }).catch(() => {}); // the notice above is enough
    } finally {
      this.upload = null;
      byId("making").hidden = true;
      byId("drop").hidden = false;
    }
  }

  /** Stops an upload; a build that has begun goes on without the page. */
  cancelUpload() {
    this.upload?.abort();
  }

  /** @param {any} avatar */
  #createItem(avatar) {
    const id = avatar.avatar_id, item = document.createElement("li"), button = document.createElement("button");
    const letter = { className: "letter", textContent: id[0], ariaHidden: "true" };
    const details = {
      ready: avatar.summary || `${avatar.width} × ${avatar.height}`,
      creating: "is being made …",
      failed: `failed: ${avatar.error}`,
    };
    button.type = "button";
    button.disabled = avatar.state !== "ready";
    button.append(
      Object.assign(document.createElement("span"), letter),
      id,
      Object.assign(document.createElement("small"), { textContent: details[avatar.state] }),
    );
    button.onclick = () => this.onChosen(id).catch((error) => showProblem(error, "Try again", () => this.onChosen(id)));
    item.append(button);
    return item;
  }
}

/**
 * Derives an avatar id from a file name; a number is added to a taken one.
 * @param {string} fileName
 * @param {Set<string>} taken
 */
function unusedId(fileName, taken) {
  const words = fileName.replace(/\.[^.]*$/, "").toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const stem = words.replace(/^-+|-+$/g, "").slice(0, 50) || "face";
  let id = stem;
  for (let n = 2; taken.has(id); n++) id = `${stem}-${n}`;
  return id;
}

/**
 * Shows the progress of an upload or build.
 * @param {string} text
 * @param {number} fraction 0 for unknown
 */
function showProgress(text, fraction) {
  byId("making-text").textContent = text;
  if (fraction) byId("making-bar").value = fraction;
  else byId("making-bar").removeAttribute("value");
}

/**
 * Uploads with XMLHttpRequest, because fetch reports no progress.
 * @param {File} file
 * @param {string} avatarId
 * @param {AbortSignal} signal
 * @returns {Promise<string>} the job id
 */
function uploadFile(file, avatarId, signal) {
  showProgress("Uploading", 0);
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", `/v1/avatars?avatar_id=${avatarId}&file_name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (api.token) request.setRequestHeader("Authorization", `Bearer ${api.token}`);
    request.upload.onprogress = ({ loaded, total }) => {
      showProgress(`Uploading: ${Math.round(100 * loaded / total)} %`, loaded / total);
    };
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onerror = () => reject(unreachable());
    request.onload = () => {
      let body = /** @type {any} */ ({});
      try {
        body = JSON.parse(request.responseText);
      } catch { /* the error page of a proxy */ }
      if (request.status === 202) resolve(body.job_id);
      else reject(new Problem(body));
    };
    request.send(file);
  });
}

/**
 * Polls a build until the avatar is ready.
 * @param {string} jobId
 * @param {AbortSignal} signal
 * @returns {Promise<string>} the avatar id
 */
async function followBuild(jobId, signal) {
  for (;;) {
    const job = await api.get(`/v1/status/${jobId}`);
    if (job.status === "completed") return jobId;
    if (job.status === "failed") {
      throw new Problem({ detail: job.error || "The face could not be made", reason: "BAD_MEDIA" });
    }
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    showProgress(`Making the face: ${job.stage || "queued"}`, job.progress);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
