// What a packet costs hep-js: "encapsulate N" or "decapsulate N" a line in, microseconds of CPU
// for N packets out. The first line holds the packet.
const hep = require('hep-js')
const { createInterface } = require('node:readline')

let data, payload, rcinfo

const work = {
  encapsulate: () => hep.encapsulate(payload, rcinfo),
  decapsulate: () => hep.decapsulate(data)
}

createInterface({ input: process.stdin }).on('line', (line) => {
  if (data === undefined) {
    data = Buffer.from(line, 'hex')
    ;({ payload, rcinfo } = hep.decapsulate(data))
    console.log(hep.encapsulate(payload, rcinfo).toString('hex'))
    return
  }
  const [what, count] = line.split(' ')
  const start = process.cpuUsage()
  for (let n = 0; n < count; n++) work[what]()
  const { user, system } = process.cpuUsage(start)
  console.log(user + system)
})
