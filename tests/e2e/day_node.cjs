// A day of a phone under Node. Usage: node day_node.cjs ws://HOST:PORT/ LIBRARY
//   LIBRARY: jssip or sipjs
// Prints one JSON object a line: {"event": NAME, "status": CODE}.
globalThis.WebSocket = require('ws');

const [url, library] = process.argv.slice(2);
const tell = (event, status) => console.log(JSON.stringify({ event, status }));
require(`./day_${library}.cjs`)(url, tell).then(() => process.exit(0));
setTimeout(() => { tell('timeout', 0); process.exit(1); }, 30000).unref();
