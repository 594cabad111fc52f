// hep-js as a filter: packets as hexadecimal in, what it decodes out; what is to be encoded in,
// packets out. A JSON array each way.
const hep = require('hep-js')

const run = ({ decapsulate, encapsulate, rcinfo, extensions }) => {
  if (extensions) hep.addVendorExtensions(extensions)
  return decapsulate === undefined
    ? hep.encapsulate(encapsulate, rcinfo).toString('hex')
    : hep.decapsulate(Buffer.from(decapsulate, 'hex'))
}

const chunks = []
process.stdin.on('data', (chunk) => chunks.push(chunk))
process.stdin.on('end', () => {
  const orders = JSON.parse(Buffer.concat(chunks).toString())
  process.stdout.write(JSON.stringify(orders.map(run)))
})
