/** Regular expressions of strings' formats: at least what RFCs allow and validators agree on. */

const day =
  "((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))";
const date = `\\d{4}-${day}`;
const time = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
const clock = "T(\\d+H(\\d+M)?(\\d+S)?|\\d+M(\\d+S)?|\\d+S)";
const days = "(\\d+Y(\\d+M)?(\\d+D)?|\\d+M(\\d+D)?|\\d+D)";

const label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const atom = "[A-Za-z0-9_+-]+";
const octet = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const group = "[0-9a-fA-F]{1,4}";
const hex = "[0-9a-fA-F]";

const pathCharacter = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})";
const firstCharacter = "([A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-F]{2})";
const path = `(/${pathCharacter}*)*`;
const tail = `(\\?(${pathCharacter}|[/?])*)?(#(${pathCharacter}|[/?])*)?`;
const uri = `[A-Za-z][A-Za-z0-9+.-]*:(//${label}(\\.${label}){0,2}(:\\d{1,5})?${path}|${pathCharacter}+${path})${tail}`;
const variable = "[A-Za-z0-9_]+(\\*|:[1-9]\\d{0,3})?";
const pointer = "(/([^/~]|~[01])*)*";

/** By the name of the format. */
export const stringFormats: Readonly<Record<string, string>> = {
  date,
  time,
  "date-time": `${date}T${time}`,
  duration: `P(\\d+W|${days}(${clock})?|${clock})`,
  email: `${atom}(\\.${atom})*@${label}(\\.${label}){1,2}`,
  hostname: `${label}(\\.${label}){0,2}`,
  ipv4: `${octet}(\\.${octet}){3}`,
  ipv6: `((${group}:){7}${group}|(${group}:){1,6}:${group}|::(${group}:){0,5}${group}|::)`,
  uuid: `${hex}{8}-${hex}{4}-${hex}{4}-${hex}{4}-${hex}{12}`,
  uri,
  "uri-reference": `(${uri}|(/${pathCharacter}+)?${path}${tail}|${firstCharacter}+${path}${tail})`,
  "uri-template": `([A-Za-z0-9._~:/?#@!$&()*+,;=-]|%[0-9A-F]{2}|\\{[+#./;?&]?${variable}(,${variable})*\\})*`,
  "json-pointer": pointer,
  "relative-json-pointer": `(0|[1-9]\\d*)(#|${pointer})`,
};
