// Requests to the server that this page came from, and its errors in words.

/** Why there is no answer, for people. `status` is what the server said it with, where it said anything. */
export class ApiError extends Error {
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }
}

const STORED = "panacea-api-key";

export class Api {
  #key = sessionStorage.getItem(STORED);
  #askForKey;
  #asked = null;

  /** `askForKey(wasWrong)` promises a key; it is called when the server wants one. */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  /** Whether requests carry a key. */
  get hasKey() {
    return this.#key !== null;
  }

  async models() {
    return (await this.#json("/v1/models")).data;
  }

  front(model) {
    return this.#json(`/v1/models/${encodeURIComponent(model)}/front`);
  }

  /** The names of a model's profiles, and notes of them. */
  profiles(model) {
    return this.#json(profilesOf(model));
  }

  /** What is known of a person. */
  profile(model, name) {
    return this.#json(`${profilesOf(model)}/${encodeURIComponent(name)}`);
  }

  /** Has answers written to a conversation, and gives what is known and two of them to compare. */
  question(model, profile, body, signal) {
    return this.#post(`${profilesOf(model)}/${encodeURIComponent(profile)}/questions`, body, signal);
  }

  /** Says which was better, and gives what is known now and the next two. */
  comparison(model, profile, body, signal) {
    return this.#post(`${profilesOf(model)}/${encodeURIComponent(profile)}/answers`, body, signal);
  }

  /** The pieces of a streamed answer as the server sends them, each an object; `signal` stops it. */
  async *chat(body, signal) {
    const response = await this.#fetch(CHAT, asPost(body, signal));
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const piece = JSON.parse(data);
      if (piece.error) throw new ApiError(piece.error.message);
      yield piece;
    }
    throw new ApiError("the connection ended before the answer did");
  }

  async #json(path) {
    return (await this.#fetch(path, {})).json();
  }

  async #post(path, body, signal) {
    return (await this.#fetch(path, asPost(body, signal))).json();
  }

  async #fetch(path, { headers = {}, ...options }) {
    for (;;) {
      const key = this.#key;
      const authorization = key === null ? {} : { Authorization: `Bearer ${key}` };
      let response;
      try {
        response = await fetch(path, { ...options, headers: { ...headers, ...authorization } });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError("the server cannot be reached; is it still running?");
      }
      if (response.ok) return response;
      if (response.status !== 401) throw new ApiError(await messageOf(response), response.status);
      // Another request may have got a key meanwhile.
      if (this.#key === key) await this.#newKey(key !== null);
    }
  }

  /** Several requests that want a key ask for it once. */
  async #newKey(wasWrong) {
    this.#asked ??= this.#askForKey(wasWrong).then((key) => {
      this.#key = key;
      sessionStorage.setItem(STORED, key);
      this.#asked = null;
    });
    await this.#asked;
  }
}

/** Where conversations are answered. */
export const CHAT = "/v1/chat/completions";

const profilesOf = (model) => `/v1/models/${encodeURIComponent(model)}/profiles`;

const asPost = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

async function messageOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `the server says ${response.status} ${response.statusText}: ${text.slice(0, 200)}`;
  }
}

/** The data of server-sent events, one after the other. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
