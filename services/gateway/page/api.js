/** HTTP client of the gateway: credentials, problem documents, token renewal. */

import { tabStorage } from "./storage.js";

const TIMEOUT_MS = 20_000;
/** Share of a token's life after which the token is renewed. */
const RENEW_AFTER = 0.8;

/** An error response (RFC 9457) or an `error` event. */
export class Problem extends Error {
  /** @param {{detail?: string, reason?: string, hint?: string}} body */
  constructor(body) {
    super(body.detail || "Something went wrong");
    this.reason = body.reason || "INTERNAL";
    this.hint = body.hint || "";
  }
}

/** Returns the problem of a server without an answer. */
export function unreachable() {
  return new Problem({
    reason: "UNREACHABLE",
    detail: "The server does not answer",
    hint: "Check that it is running",
  });
}

class ApiClient {
  constructor() {
    /** Page token of the current session. */
    this.token = "";
    /** API key as typed by the user; kept in memory only. */
    this.key = "";
    /**
     * Response of /v1/config.
     * @type {any}
     */
    this.config = {};
    this.renewalTimer = 0;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {any} [body] sent as JSON, a Blob as is
   * @param {{useKey?: boolean, type?: string, timeoutMs?: number}} [options] `useKey` prefers the API key to the token
   * @returns {Promise<any>} the JSON response, or null
   * @throws {Problem}
   */
  async request(method, path, body, { useKey = false, type = "application/json", timeoutMs = TIMEOUT_MS } = {}) {
    const headers = /** @type {Record<string, string>} */ ({});
    if (useKey && this.key) headers["X-Internal-API-Key"] = this.key;
    else if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = type;
    const raw = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
    let response;
    try {
      response = await fetch(path, { method, headers, body: raw, signal: AbortSignal.timeout(timeoutMs) });
    } catch {
      throw unreachable();
    }
    if (!response.ok) throw new Problem(await response.json().catch(() => ({})));
    try {
      return response.status === 204 ? null : await response.json();
    } catch {
      throw unreachable();
    }
  }

  /** @param {string} path */
  get(path) {
    return this.request("GET", path);
  }

  /**
   * @param {string} path
   * @param {any} [body]
   * @param {object} [options] see `request`
   */
  post(path, body = {}, options) {
    return this.request("POST", path, body, options);
  }

  /**
   * Returns a URL for elements and sockets, which cannot send headers: the token goes into the query.
   * @param {string} path
   */
  withToken(path) {
    if (!this.token) return path;
    return `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(this.token)}`;
  }

  /**
   * Gets a token with the API key.
   * @param {string} sessionId empty for a new session
   * @returns {Promise<string>} the session id
   */
  async requestToken(sessionId) {
    const issued = await this.post("/v1/token", sessionId ? { session_id: sessionId } : {}, { useKey: true });
    this.#keepToken(issued);
    return issued.session_id;
  }

  /**
   * Uses the token of a link, or else the token from before a reload, and renews it.
   * @param {string} linkToken
   */
  restoreToken(linkToken) {
    this.token = linkToken || tabStorage.get("token");
    if (linkToken) tabStorage.set("token", linkToken);
    if (this.token) this.#renewToken();
  }

  /** @param {{token: string, expires_in: number}} issued */
  #keepToken(issued) {
    this.token = issued.token;
    tabStorage.set("token", issued.token);
    clearTimeout(this.renewalTimer);
    this.renewalTimer = setTimeout(() => this.#renewToken(), issued.expires_in * 1000 * RENEW_AFTER);
  }

  #renewToken() {
    // without a renewal the token expires, and the next request asks for the key
    this.post("/v1/token").then((issued) => this.#keepToken(issued)).catch(() => {});
  }
}

export const api = new ApiClient();
