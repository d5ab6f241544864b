/** Refuses to play as browsers do without a user gesture: sessionStorage['test.refused'] is "sound", "all" or empty. */
(() => {
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    const refused = sessionStorage.getItem("test.refused");
    if (refused === "all" || (refused === "sound" && !this.muted)) {
      return Promise.reject(new DOMException("", "NotAllowedError"));
    }
    return play.call(this);
  };
})();
