// Package timing is a model of the hardware below one-sided replication of persistent memory, with a virtual clock:
// threads and what their instructions cost, network cards, links, PCIe, the cache that a card writes into, the memory
// controller's write queue, and the media.
//
// Programs run over it unchanged: a [Node] is a machine, its [Node.Endpoint] is a fabric.Endpoint, its [Node.Memory] a
// pmem.Memory, and what moves, moves: package simfab below it holds keys, rights, bytes and errors; this package decides
// when each step of each operation happens. All numbers are [Params]. Equal parameters, seed and program give equal
// runs, to the picosecond.
//
// # Threads
//
// [Model.Run] runs functions as threads in virtual time. One runs at a time: a call of the model happens at its thread's
// clock when no other thread is earlier, and then the clock moves on by what the call costs. What a program does
// between two calls costs nothing, unless it says so ([Model.Compute]). A thread may not wait for another by
// anything but the model (memory, messages, completions): a mutex held over a call of the model would stop all of them for
// ever. A program that polls again and again is not simulated poll by poll: after a few that brought nothing, the clock
// moves on to when something happens.
//
// # The path of a write
//
// Posted (CPU), doorbell (PCIe), card, link, switch, card: here it is acknowledged; then PCIe, then either the cache,
// where it lies dirty, or the memory controller's write queue, which is durable under ADR, then the media. docs/timing.md
// has the formulas.
package timing

import (
	"errors"
	"fmt"
	"math"
	"time"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// ps is a point or a span of virtual time, in picoseconds: whole, so that a sum does not depend on its order.
type ps = int64

const never ps = math.MaxInt64

// Model is a set of machines with one clock. It belongs to one goroutine and to the threads that [Model.Run] makes of it.
type Model struct {
	cost   costs
	params Params
	net    *simfab.Network
	nodes  map[string]*Node
	conns  map[fabric.Conn]*conn // by simfab's end
	keys   map[fabric.Key]*registration
	dice   dice
	events events
	thread *Thread   // whose call is under way
	first  *Thread   // the goroutine that made the model
	ready  []*Thread // suspended ones, the earliest first
	now    ps        // all events up to here have happened
	posted []simfab.Event
	free   []*work
}

// New makes a model without machines. seed is that of everything that varies ([Tail]).
func New(p Params, seed uint64) (*Model, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	m := &Model{
		cost: costsOf(p), params: p, nodes: map[string]*Node{}, conns: map[fabric.Conn]*conn{}, keys: map[fabric.Key]*registration{},
		dice: newDice(p.Tail, seed),
	}
	m.net = simfab.New(simfab.Options{
		Late: true, Acked: true, Inline: int(p.NIC.Inline),
		OnPost: func(e simfab.Event) { m.posted = append(m.posted, e) },
	})
	m.first = &Thread{m: m}
	m.thread = m.first
	return m, nil
}

// Node is a machine: CPUs, a cache, memory and a network card.
type Node struct {
	m        *Model
	name     string
	nic      nic
	memory   memory
	endpoint *endpoint
	spaces   []*space
	next     uint64 // address of the next space
}

// Node is the machine called name. It is made if there is none.
func (m *Model) Node(name string) *Node {
	n := m.nodes[name]
	if n == nil {
		n = &Node{m: m, name: name, nic: newNIC(m), memory: newMemory(m)}
		m.nodes[name] = n
	}
	return n
}

// Endpoint is the machine's endpoint: the same one until it is closed, then a new one.
func (n *Node) Endpoint() fabric.Endpoint {
	inner := n.m.net.Endpoint(n.name)
	if n.endpoint == nil || n.endpoint.inner != inner {
		n.endpoint = &endpoint{node: n, inner: inner}
	}
	return n.endpoint
}

// Listen installs the function that answers those who dial the machine's endpoint. Their ends of the connections are theirs:
// the machine has its own through Accept, if it wants them.
func (n *Node) Listen(answer func(hello []byte) ([]byte, error)) {
	n.Endpoint().(*endpoint).inner.Listen(answer)
}

// Connect makes a connection between two machines' endpoints without a handshake, at no cost, and returns a's end and b's.
func (m *Model) Connect(a, b *Node) (fabric.Conn, fabric.Conn) {
	ea, eb := a.Endpoint().(*endpoint), b.Endpoint().(*endpoint)
	innerA, innerB := m.net.Connect(a.name, b.name)
	ca, cb := m.wrap(ea, innerA, b), m.wrap(eb, innerB, a)
	ca.peer, cb.peer = cb, ca
	return ca, cb
}

// Now is the clock of the thread that asks. It begins at zero.
func (m *Model) Now() time.Duration { return time.Duration(m.thread.clock / 1000) }

// Compute lets the thread that calls it work for d on something that the model does not know.
func (m *Model) Compute(d time.Duration) { m.spend(ps(d) * 1000) }

// LoadCached lets the thread that calls it load n lines, one after the other, that the last-level cache holds.
func (m *Model) LoadCached(n int) { m.spend(ps(n) * m.cost.cacheHit) }

// LoadDRAM is LoadCached of lines that are in DRAM.
func (m *Model) LoadDRAM(n int) { m.spend(ps(n) * m.cost.dramLoad) }

// LoadPM is LoadCached of lines that are in persistent memory.
func (m *Model) LoadPM(n int) { m.spend(ps(n) * m.cost.readLatency) }

// Params are those that the model was made with.
func (m *Model) Params() Params { return m.params }

// Idle is for mirror.Options.Idle: a thread that waits polls, which moves its clock. It is an error when nothing is under
// way, and no other thread is there, so that waiting would never end.
func (m *Model) Idle() error {
	if len(m.ready) == 0 && m.events.next() == never && m.nextDue() == never {
		return errIdle
	}
	return nil
}

var errIdle = errors.New("timing: nothing is under way, and nobody is there to change that")

// Settle lets everything that is under way come to its end, and the calling thread's clock with it.
func (m *Model) Settle() {
	for m.Step() {
	}
}

// Step lets the next thing that is under way happen, and moves the calling thread's clock there. It is false when nothing
// is.
func (m *Model) Step() bool {
	t := m.enter()
	at := min(m.events.next(), m.nextDue())
	if at == never {
		return false
	}
	t.clock = max(t.clock, at)
	m.happen(t.clock)
	return true
}

// nextDue is when the next completion arrives that has not.
func (m *Model) nextDue() ps {
	at := never
	for _, c := range m.conns {
		if due := c.nextDue(); due > m.now {
			at = min(at, due)
		}
	}
	return at
}

// domain is what Persist, Fence and a durable Flush give.
func (m *Model) domain() pmem.Domain {
	if m.params.Memory.EADR {
		return pmem.EADR
	}
	return pmem.ADR
}

func (n *Node) String() string { return fmt.Sprintf("node %s", n.name) }

// Crash ends the process at the machine's endpoint, as simfab's Crash does. Its memory is the caller's.
func (m *Model) Crash(n *Node) {
	m.begin()
	m.net.Crash(n.name)
}
