// The course of an interview: which prompt is asked about, and when it is enough.

/** Questions about the answers to one prompt. After them, new answers to the next one say more. */
const QUESTIONS_PER_PROMPT = 3;

export class Interview {
  #api;
  #model;
  #profile;
  #prompts;
  #sampling;
  /** Prompts that were asked about so far; they come round. */
  #rounds = 0;
  /** How often answers were asked for. */
  #written = 0;
  /** Questions about this one that were answered. */
  #answered = 0;
  #question = null;
  /** Whether to go on to the end of this prompt, though the server would end. */
  #goesOn = null;
  /** What is known of the person. */
  known = null;

  constructor({ api, model, profile, prompts, sampling }) {
    this.#api = api;
    this.#model = model;
    this.#profile = profile;
    this.#prompts = prompts;
    this.#sampling = sampling;
  }

  /** What is asked about. */
  get prompt() {
    return this.#prompts[this.#rounds % this.#prompts.length];
  }

  get prompts() {
    return this.#prompts;
  }

  /** The next question is about the next prompt. */
  turn() {
    this.#rounds += 1;
  }

  /** To be asked on, even though it was enough. */
  goOn() {
    this.#goesOn = this.known.progress !== "ask_on";
    this.turn();
  }

  /**
   * Has answers written to the prompt whose turn it is, and gives the first question about them; to the next prompt where all
   * of them were compared before, and nothing where this is so of all prompts.
   */
  async begin(signal) {
    for (const _ of this.#prompts) {
      const { profile, question } = await this.#api.question(this.#model, this.#profile, this.#request(), signal);
      // Who comes back when it was enough wants to be asked on.
      this.#goesOn ??= profile.progress !== "ask_on";
      this.known = profile;
      this.#question = question;
      this.#answered = 0;
      if (question) return question;
      this.turn();
    }
    return null;
  }

  #request() {
    const { seed, candidates, ...sampling } = this.#sampling;
    const body = {
      messages: [{ role: "user", content: this.prompt }],
      ...sampling,
      candidates,
      // No two answers of an interview have one seed.
      ...(seed !== undefined && { seed: seed + this.#written * candidates }),
    };
    this.#written += 1;
    return body;
  }

  /** `left`, `right`, `about_equal` or `skip`. Gives the `next` question where it is not another prompt's turn or enough. */
  async say(answer, signal) {
    const body = { question: this.#question.id, answer };
    const { profile, question } = await this.#api.comparison(this.#model, this.#profile, body, signal);
    this.known = profile;
    this.#question = question;
    this.#answered += 1;
    const isTurn = question === null || this.#answered >= QUESTIONS_PER_PROMPT;
    const isEnough = profile.progress !== "ask_on" && (isTurn || !this.#goesOn);
    return { isEnough, next: isTurn || isEnough ? null : question };
  }
}
