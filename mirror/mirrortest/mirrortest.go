// Package mirrortest loses power under programs that mirror their memory. A [World] is a primary and its mirrors with
// simulated persistent memory on a simulated network, all in one goroutine (several threads of a program take turns: [World.Interleave]); at every [World.Point] a test may take what a loss of power would
// leave on each side, let the program's own recovery run on it, and check.
//
//	w := mirrortest.New(t, mirrortest.Options{Size: 64 << 10, Seed: seed})
//	region := w.Open(mirror.Options{Strategy: mirror.OrderedBuffering})
//	w.Point = func() { check(w.Here.Crash(w.Rng)); check(w.There[0].Crash(w.Rng)) }
//	... transactions on region ...
package mirrortest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/pmem"
)

// Options make a world. The zero value has one mirror of a region of 4096 bytes, on a network that lands writes in order.
type Options struct {
	Size    uint64 // of the region, a multiple of 64
	Mirrors int
	Net     simfab.Options
	Seed    uint64
	// Spoil, if not nil, tampers with each connection of the primary: a broken variant.
	Spoil func(fabric.Conn) fabric.Conn
	// SpoilHere, if not nil, tampers with the primary's memory.
	SpoilHere func(pmem.Memory) pmem.Memory
}

// World is a primary, P, and its mirrors, M1, M2, ... It belongs to one goroutine.
type World struct {
	Net   *simfab.Network
	Rng   *rand.Rand
	Here  *pmem.Simulated   // the primary's memory
	There []*pmem.Simulated // the mirrors'
	// Point, if not nil, is called wherever a loss of power makes a difference: around each call on a memory, and after
	// each event of the network.
	Point func()
	// Next, if not nil, lets the next thing happen on the network in place of a random one.
	Next func() error

	t       testing.TB
	opts    Options
	inPoint bool
	turn    func() // lets another thread go on; nil: there is one
	event   bool   // what happens is the network's doing, not a thread's
	threads int    // that have not ended
	waits   int    // of threads, since something has happened
	label   bool   // the primary's label is being stored, under the region's lock
}

// ErrStuck is why a mirror is lost when nothing can happen on the network any more.
var ErrStuck = errors.New("mirrortest: nothing can happen on the network")

// New makes a world with zero memories.
func New(t testing.TB, o Options) *World {
	t.Helper()
	if o.Size == 0 {
		o.Size = 4096
	}
	if o.Mirrors == 0 {
		o.Mirrors = 1
	}
	w := &World{t: t, opts: o, Net: simfab.New(o.Net), Rng: rand.New(rand.NewPCG(o.Seed, 0x6d6972726f72))}
	w.Here = pmem.Simulate(mirror.HeadSize+o.Size, pmem.ADR, o.Seed)
	for i := range o.Mirrors {
		w.Serve(i, pmem.Simulate(mirror.HeadSize+o.Size, pmem.ADR, o.Seed+1+uint64(i)))
	}
	return w
}

// Name is the address of mirror i.
func Name(i int) string { return fmt.Sprintf("M%d", i+1) }

// Names are the addresses of all mirrors.
func (w *World) Names() (names []string) {
	for i := range w.There {
		names = append(names, Name(i))
	}
	return names
}

// Serve exports m as mirror i: by a new process, if the last one was crashed with Net.Crash.
func (w *World) Serve(i int, m *pmem.Simulated) *mirror.Export {
	w.t.Helper()
	for len(w.There) <= i {
		w.There = append(w.There, nil)
	}
	w.There[i] = m
	ep := w.Net.Endpoint(Name(i))
	x, err := mirror.NewExport(ep, &watched{m, w})
	if err != nil {
		w.t.Fatal(err)
	}
	ep.Listen(x.Answer)
	return x
}

// TryOpen opens the primary's memory with all mirrors, or with none if the strategy is mirror.None.
func (w *World) TryOpen(o mirror.Options) (*mirror.Region, error) {
	o.Idle = w.Idle
	var here pmem.Memory = &watched{w.Here, w}
	if w.opts.SpoilHere != nil {
		here = w.opts.SpoilHere(here)
	}
	var ep fabric.Endpoint = w.Net.Endpoint("P")
	if w.opts.Spoil != nil {
		ep = &spoiled{ep, w.opts.Spoil}
	}
	names := w.Names()
	if o.Strategy == mirror.None {
		names = nil
	}
	return mirror.Open(context.Background(), here, ep, names, o)
}

// Open is TryOpen, which must not fail.
func (w *World) Open(o mirror.Options) *mirror.Region {
	w.t.Helper()
	r, err := w.TryOpen(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Idle lets one thing happen on the network; or, beside other threads, lets one of them go on.
func (w *World) Idle() error {
	if w.turn != nil && w.Rng.IntN(2) == 0 {
		w.turn()
		return nil
	}
	if w.Next != nil {
		if err := w.Next(); err != nil {
			return err
		}
	} else if !w.step() {
		// Who waits may wait for another thread; but if all do nothing but wait, it is for nothing.
		if w.waits++; w.turn == nil || w.threads == 1 || w.waits > 20*w.threads {
			w.waits = 0
			return ErrStuck
		}
		w.turn()
		return nil
	}
	w.point()
	return nil
}

// step lets a random thing happen on the network. False: nothing can.
func (w *World) step() bool {
	w.event = true
	defer func() { w.event = false }()
	return w.Net.Step(w.Rng)
}

// Settle lets everything happen that can.
func (w *World) Settle() {
	for w.Net.Step(w.Rng) {
		w.point()
	}
}

// point calls Point, unless it is what the program does now; and other threads may go on here.
func (w *World) point() {
	if w.inPoint {
		return
	}
	w.waits = 0
	if w.Point != nil {
		w.inPoint = true
		w.Point()
		w.inPoint = false
	}
	if w.turn != nil && !w.event && !w.label && w.Rng.IntN(4) == 0 {
		w.turn()
	}
}

// Alone opens what a loss of power left of one side, as a failover does, without mirrors.
func Alone(t testing.TB, m pmem.Memory, threads int) *mirror.Region {
	t.Helper()
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// watched is a memory whose calls are points.
type watched struct {
	*pmem.Simulated
	w *World
}

func (m *watched) Persist(off, n uint64) {
	m.w.point()
	m.Simulated.Persist(off, n)
	m.w.point()
}

func (m *watched) CopyNT(off uint64, src []byte) {
	m.w.point()
	m.Simulated.CopyNT(off, src)
	m.w.point()
}

func (m *watched) Fence() {
	m.w.point()
	m.Simulated.Fence()
	m.w.point()
	m.w.label = false
}

func (m *watched) Store64(off, v uint64) {
	m.w.label = m.w.label || off < mirror.HeadSize && m.Simulated == m.w.Here
	m.w.point()
	m.Simulated.Store64(off, v)
	m.w.point()
}

// spoiled is an endpoint whose connections are tampered with.
type spoiled struct {
	fabric.Endpoint
	spoil func(fabric.Conn) fabric.Conn
}

func (e *spoiled) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	c, answer, err := e.Endpoint.Dial(ctx, addr, hello)
	if err == nil {
		c = e.spoil(c)
	}
	return c, answer, err
}

// Edit tampers with a connection's operations: with edit, which gets each operation and answers what to post in its place, if anything.
func Edit(edit func(fabric.Op) []fabric.Op) func(fabric.Conn) fabric.Conn {
	return func(c fabric.Conn) fabric.Conn { return &edited{Conn: c, edit: edit} }
}

type edited struct {
	fabric.Conn
	edit func(fabric.Op) []fabric.Op
}

func (c *edited) Post(ops []fabric.Op) int {
	for i, op := range ops {
		for _, now := range c.edit(op) {
			if c.Conn.Post([]fabric.Op{now}) == 0 {
				return i // what was posted of the operation is posted again: as good as any fault
			}
		}
	}
	return len(ops)
}
