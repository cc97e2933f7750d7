// Package simfab is a simulated fabric: every endpoint lives in one goroutine, nothing happens by itself, there is no
// clock, and what happens next is chosen by the caller, so that a run is a function of the calls made.
//
// An operation that is posted becomes an [Event]. Whoever drives the [Network] decides when it lands: [Network.Deliver]
// and [Network.DeliverAll] for scripts, [Network.Step] for a random walk from a seed, [Options].Auto for at once.
//
// # Completions come early
//
// A Write, Write8, Send or Fence (of placement Visible) completes as soon as it is posted (with [Options].Late: when the driver says so), long
// before its bytes are visible at the peer, let alone durable. That is all that the completion of an RDMA WRITE
// promises (RFC 5040, section 5.5: data placed, not delivered; InfiniBand Architecture Specification 1.5, section 9.7.5),
// and code that counts it as more fails here. Flush, Read and the atomics complete only when everything before them on
// the connection has landed, and so does a Fence with placement Durable. What makes bytes durable: a Flush with placement
// Durable, of what its connection wrote before it (not what others wrote, nor what the CPU there stored); a Fence with it, of
// what was written through before; a NonTemporal write, itself, when it lands. A WriteThrough that has landed may be durable,
// or not yet.
//
// # What may overtake what
//
// On one connection, as the ordering rules of InfiniBand have it: a plain Write may land before a Flush, and, unless it is
// Fenced, before a Read that was posted earlier; a NonTemporal one waits for earlier NonTemporal ones. With [Options].Relaxed plain Writes also land in any order among
// themselves, as far as they do not overlap, and in any order of their 8-byte words. All else lands in post order: a
// Write8, Send, Fence or Write with Notify after everything before it, and nothing before an earlier one of them. Nothing
// is ordered between connections.
package simfab

import (
	"fmt"

	"whale/fabric"
	"whale/pmem"
)

// Options say how the network behaves and what its connections can do. The zero value is a network on which Writes
// complete early and land in order when told to.
type Options struct {
	Auto    bool // each operation lands as soon as it can
	Late    bool // a Write completes when it lands or when told to by Network.Complete, not when it is posted
	Acked   bool // nothing completes before Network.Complete says so, not even what has landed
	Relaxed bool // plain Writes between two points of order land in any order, word by word

	QueueDepth int // default 1024
	RecvDepth  int // default 1024
	Inline     int // bytes; default 256; negative: none
	MaxSend    int // bytes; default 65536

	NoAtomics bool // CompareSwap and FetchAdd are refused
	NoDurable bool // so are a durable Flush and Fence: no persistence domain
	DDIO      bool // and so is a NonTemporal write: what comes in goes to the caches

	// Midway lets Step leave an operation in the middle for a while, and land it: see [Network.Begin].
	Midway bool
	// Later is asked when a key is withdrawn under which nothing is in the middle; true: Revoke answers ErrInFlight all the
	// same, and is to be called again, as where a card withdraws keys in the background.
	Later func() bool

	// OnLand hears of each operation that is about to take effect at the peer, or a part of it. The event is good during the
	// call.
	OnLand func(Event)
	// OnPost hears of each operation as it is posted, after its early completion. It may not deliver it yet.
	OnPost func(Event)
	// Log gets one line for whatever happens. Two runs that made the same calls have the same log.
	Log func(line string)
}

// Network is the whole fabric. It and everything on it belong to one goroutine.
type Network struct {
	opts      Options
	caps      fabric.Caps
	endpoints map[string]*Endpoint // the latest incarnation under each name
	regions   []*region            // by key; nil: revoked
	labels    map[fabric.Key]string
	held      map[route]bool
	active    []*conn // those with operations that have not landed
	middle    []*op   // those that are in the middle
	events    uint64  // IDs given so far
	ops       []*op   // free ones
	payloads  [33][][]byte
}

type route struct{ from, to string }

// keyTag makes keys differ from anything else that is a number in a program.
const keyTag = 0x5EED << 48

// New makes an empty network.
func New(opts Options) *Network {
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
		*v = max(*v, 0)
	}
	set(&opts.QueueDepth, 1024)
	set(&opts.RecvDepth, 1024)
	set(&opts.Inline, 256)
	set(&opts.MaxSend, 64<<10)
	n := &Network{opts: opts, endpoints: map[string]*Endpoint{}, labels: map[fabric.Key]string{}, held: map[route]bool{}}
	n.caps = fabric.Caps{
		Provider: "simfab", QueueDepth: opts.QueueDepth, RecvDepth: opts.RecvDepth, Inline: opts.Inline, MaxSend: opts.MaxSend,
		Atomics: !opts.NoAtomics, NativeFlush: true, Domain: pmem.ADR, NonTemporal: !opts.DDIO && !opts.NoDurable,
	}
	if opts.NoDurable {
		n.caps.Domain = pmem.None
	}
	return n
}

// Endpoint is the endpoint called name. It is made if there is none, or if the last one was closed or crashed: a new
// incarnation, which knows no key and no connection of the old one.
func (n *Network) Endpoint(name string) *Endpoint {
	ep := n.endpoints[name]
	if ep == nil || ep.closed {
		ep = &Endpoint{net: n, name: name}
		n.endpoints[name] = ep
	}
	return ep
}

// Connect makes a connection between two endpoints without a handshake and returns a's end and b's.
func (n *Network) Connect(a, b string) (fabric.Conn, fabric.Conn) {
	return n.connect(n.Endpoint(a), n.Endpoint(b))
}

func (n *Network) connect(a, b *Endpoint) (*conn, *conn) {
	ca := &conn{net: n, ep: a, held: n.held[route{a.name, b.name}]}
	cb := &conn{net: n, ep: b, held: n.held[route{b.name, a.name}]}
	ca.peer, cb.peer = cb, ca
	a.conns = append(a.conns, ca)
	b.conns = append(b.conns, cb)
	n.logf("connect %s %s", a.name, b.name)
	return ca, cb
}

// Unlanded says how many operations of the connection, which must be of this network, have not landed.
func (n *Network) Unlanded(c fabric.Conn) int { return c.(*conn).unlanded }

// Alive says whether operations on the connection can still succeed, as far as this end knows.
func (n *Network) Alive(c fabric.Conn) bool { return !c.(*conn).dead }

// Unpolled says how many completions wait at the connection.
func (n *Network) Unpolled(c fabric.Conn) int { return c.(*conn).completions.len() }

// Label names a key in events and in the log: "@ring+128" in place of "@0x5eed000000000007+128".
func (n *Network) Label(key fabric.Key, name string) { n.labels[key] = name }

func (n *Network) logf(format string, args ...any) {
	if n.opts.Log != nil {
		n.opts.Log(fmt.Sprintf(format, args...))
	}
}

// region is registered memory.
type region struct {
	ep     *Endpoint
	mem    pmem.Memory
	base   uint64 // of the registration in mem, a multiple of 8
	bytes  []byte // the registered part
	rights fabric.Rights

	revoked bool
	inside  int // operations in the middle
}

// region is the memory that ep registered under key, while that is good.
func (n *Network) region(ep *Endpoint, key fabric.Key) *region {
	if r := n.given(ep, key); r != nil && !r.revoked {
		return r
	}
	return nil
}

// given is the memory that ep registered under key, until Revoke has said that nothing lands there any more.
func (n *Network) given(ep *Endpoint, key fabric.Key) *region {
	i := uint64(key) - keyTag
	if i >= uint64(len(n.regions)) {
		return nil
	}
	if r := n.regions[i]; r != nil && r.ep == ep {
		return r
	}
	return nil
}

// span is [off, off+size) of the region, if it has any of the rights (or none is asked for) and holds all of the range.
func (r *region) span(off, size uint64, needs fabric.Rights) ([]byte, bool) {
	total := uint64(len(r.bytes))
	if needs != 0 && r.rights&needs == 0 || size > total || off > total-size {
		return nil, false
	}
	return r.bytes[off : off+size : off+size], true
}

// overlaps: the two ranges have an 8-byte word in common, whatever keys they go by.
func overlaps(r1 *region, off1, n1 uint64, r2 *region, off2, n2 uint64) bool {
	if n1 == 0 || n2 == 0 || &r1.mem.Bytes()[0] != &r2.mem.Bytes()[0] {
		return false
	}
	off1 += r1.base
	off2 += r2.base
	return off1/8 <= (off2+n2-1)/8 && off2/8 <= (off1+n1-1)/8
}
