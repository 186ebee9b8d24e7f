// A request as a command for a shell.

/** `body` sent to `path` of this server. The key is not in it: the shell has it in PANACEA_API_KEY. */
export function asCurl(path, body, hasKey) {
  const parts = [
    `curl --no-buffer ${quoted(location.origin + path)}`,
    "-H 'Content-Type: application/json'",
    ...(hasKey ? ['-H "Authorization: Bearer $PANACEA_API_KEY"'] : []),
    `-d ${quoted(JSON.stringify(body))}`,
  ];
  return parts.join(" \\\n    ");
}

/** As one word of a shell, whatever is in it. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
