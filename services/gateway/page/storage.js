/** State of the page that survives a reload and ends with the tab. */

const PREFIX = "warmtalk.";

/** @typedef {"token" | "session" | "stream" | "position" | "said"} StorageKey */

export const tabStorage = {
  /**
   * @param {StorageKey} key
   * @returns {string} empty when nothing is stored
   */
  get(key) {
    return sessionStorage.getItem(PREFIX + key) || "";
  },

  /**
   * @param {StorageKey} key
   * @param {string} value
   */
  set(key, value) {
    sessionStorage.setItem(PREFIX + key, value);
  },
};
