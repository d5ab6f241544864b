/** The talk page: connects the controls to the conversation, and decides what to show first. */

import { api } from "./api.js";
import { AvatarPicker } from "./avatars.js";
import { Conversation } from "./conversation.js";
import { holdToTalk, Microphone } from "./microphone.js";
import { tabStorage } from "./storage.js";
import { byId, hideNotice, showNotice, showProblem, showSection, showStatus } from "./ui.js";

const SAVE_POSITION_MS = 500;
/** Delay before the page looks again for a server that does not answer. */
const RETRY_MS = 4000;
/** Answers for a session that the page cannot have, in place of which an avatar is chosen. */
const NO_SESSION = ["NOT_FOUND", "FORBIDDEN", "INVALID_INPUT"];

/** Session of a link with a page token: /?session=ID#token=TOKEN */
const linkedSession = new URLSearchParams(location.search).get("session") || "";
const conversation = new Conversation(() => {
  picker.show().catch(showProblem);
});
const picker = new AvatarPicker({
  onChosen: startSession,
  hasConversation: () => Boolean(conversation.session),
});
const microphone = new Microphone(conversation);

/** Shows the last or linked session, or the only avatar, or the choice of avatars. */
async function start() {
  showStatus("Connecting …");
  try {
    api.config = await api.get("/v1/config");
    if (api.config.key && !api.token) {
      showSection("unlock");
      return;
    }
    if (await openKnownSession()) return;
    const ready = (await picker.show()).filter((avatar) => avatar.state === "ready");
    const only = ready.find((avatar) => avatar.avatar_id === api.config.avatar_id) || (ready.length === 1 && ready[0]);
    if (only) await startSession(only.avatar_id);
  } catch (error) {
    showStatus("Not connected", "off");
    const unreachable = error.reason === "UNREACHABLE";
    if (unreachable) error.hint = "Is it running? This page tries again by itself";
    showProblem(error, "Try again", start);
    if (unreachable) setTimeout(retry, RETRY_MS);
  }
}

function retry() {
  if (byId("notice").hidden || conversation.session) return;
  hideNotice();
  start();
}

/** @returns {Promise<boolean>} false if there is no session to open */
async function openKnownSession() {
  const known = linkedSession || tabStorage.get("session");
  if (!known) return false;
  try {
    conversation.open(await api.get(`/v1/sessions/${known}`));
    return true;
  } catch (error) {
    if (!NO_SESSION.includes(error.reason)) throw error;
    return false;
  }
}

/**
 * Starts a session with an avatar. A page with a link keeps the session of the link.
 * @param {string} avatarId
 */
async function startSession(avatarId) {
  showStatus("Starting …");
  let sessionId = "";
  if (api.config.key) sessionId = (!api.key && linkedSession) || await api.requestToken("");
  const session = await api.post("/v1/sessions", { avatar_id: avatarId, session_id: sessionId });
  hideNotice();
  conversation.open(session, { isNew: true });
}

async function unlock() {
  try {
    await api.requestToken(linkedSession);
    byId("key").value = "";
    hideNotice();
    await start();
  } catch (error) {
    if (error.reason === "UNAUTHENTICATED") showNotice("That is not the key.", "Check it and try again.");
    else showProblem(error);
  }
}

function connectComposer() {
  const words = byId("words");
  const fitHeight = () => {
    words.style.height = "auto";
    words.style.height = `${words.scrollHeight + 2}px`;
  };
  byId("composer").onsubmit = (event) => {
    event.preventDefault();
    const text = words.value.trim();
    if (!text || !conversation.ask(text)) return;
    words.value = "";
    fitHeight();
  };
  words.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  };
  words.oninput = fitHeight;
  byId("stop").onclick = () => conversation.interrupt();
  document.onkeydown = (event) => {
    if (event.key === "Escape" && !byId("confirm").open) conversation.interrupt();
  };
  holdToTalk(byId("hold"), microphone);
}

function connectConversation() {
  byId("log").onclick = ({ target }) => {
    const at = target.dataset?.at;
    if (at) conversation.playRecording(Number(at));
  };
  byId("back").onclick = () => conversation.showLive();
  byId("start").onclick = byId("sound").onclick = () => conversation.stream.player.unmute();
  const confirm = byId("confirm");
  byId("reset").onclick = () => confirm.showModal();
  confirm.onclose = () => {
    if (confirm.returnValue === "yes") conversation.reset();
    confirm.returnValue = "";
  };
  byId("change").onclick = () => {
    if (api.config.key && !api.key) {
      showNotice("This link is for one face.", "Ask for another link, or open the page with the key.");
    } else picker.show({ back: true }).catch((error) => showProblem(error));
  };
  const savePosition = () => conversation.stream.savePosition();
  window.addEventListener("pagehide", savePosition);
  setInterval(savePosition, SAVE_POSITION_MS);
}

function connectSetup() {
  const fileInput = byId("file"), setup = byId("setup"), drop = byId("drop");
  byId("unlock").querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    api.key = byId("key").value.trim();
    unlock();
  };
  byId("setup-back").onclick = () => {
    showSection("talk");
    showStatus("Live", "on");
  };
  fileInput.onchange = () => {
    const [file] = fileInput.files;
    fileInput.value = "";
    if (file) picker.create(file);
  };
  byId("making-stop").onclick = () => picker.cancelUpload();
  /** @param {DragEvent} event @param {boolean} over */
  const markDrop = (event, over) => {
    event.preventDefault();
    drop.classList.toggle("over", over);
  };
  setup.ondragover = (event) => markDrop(event, true);
  setup.ondragleave = (event) => markDrop(event, false);
  setup.ondrop = (event) => {
    markDrop(event, false);
    const [file] = event.dataTransfer.files;
    if (file && !drop.hidden) picker.create(file);
  };
}

const linkToken = new URLSearchParams(location.hash.slice(1)).get("token") || "";
api.restoreToken(linkToken);
if (linkToken) history.replaceState(null, "", location.pathname + location.search); // keeps the token out of copied URLs
connectComposer();
connectConversation();
connectSetup();
start();
