package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// errStuck is what Idle says when nothing can happen any more.
var errStuck = errors.New("nothing can happen on the network")

// world is a primary P with its memory, and mirrors M1, M2, ... with theirs, on a simulated network.
type world struct {
	t       testing.TB
	net     *simfab.Network
	rng     *rand.Rand
	primary *pmem.Simulated
	mirrors []*pmem.Simulated
	exports []*Export
	names   []string
	region  *Region
	onIdle  func() error
}

type setup struct {
	size    uint64 // of the region; default 4096
	mirrors int    // default 1
	net     simfab.Options
	opts    Options
	seed    uint64
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	set(&s.size, 4096)
	set(&s.mirrors, 1)
	w := &world{t: t, net: simfab.New(s.net), rng: rand.New(rand.NewPCG(s.seed, 7)), primary: pmem.Simulate(HeadSize+s.size, pmem.ADR, s.seed)}
	for i := range s.mirrors {
		w.serve(i, pmem.Simulate(HeadSize+s.size, pmem.ADR, s.seed+100+uint64(i)))
	}
	return w
}

// serve exports a memory as mirror i, by a new process if there was one.
func (w *world) serve(i int, m *pmem.Simulated) {
	w.t.Helper()
	name := fmt.Sprintf("M%d", i+1)
	for len(w.mirrors) <= i {
		w.mirrors, w.exports, w.names = append(w.mirrors, nil), append(w.exports, nil), append(w.names, name)
	}
	x, err := NewExport(w.net.Endpoint(name), m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.net.Endpoint(name).Listen(x.Answer)
	w.mirrors[i], w.exports[i] = m, x
}

// idle lets something happen.
func (w *world) idle() error {
	if w.onIdle != nil {
		return w.onIdle()
	}
	if !w.net.Step(w.rng) {
		return errStuck
	}
	return nil
}

// open opens the primary's memory, with all mirrors unless the strategy is None.
func (w *world) open(o Options) error {
	o.Idle = w.idle
	peers := w.names
	if o.Strategy == None {
		peers = nil
	}
	r, err := Open(context.Background(), w.primary, w.net.Endpoint("P"), peers, o)
	w.region = r
	return err
}

func (w *world) mustOpen(o Options) *Region {
	w.t.Helper()
	if err := w.open(o); err != nil {
		w.t.Fatal(err)
	}
	return w.region
}

func (w *world) begin() *Tx {
	w.t.Helper()
	tx, err := w.region.Begin()
	if err != nil {
		w.t.Fatal(err)
	}
	return tx
}

// settle lands whatever is on its way.
func (w *world) settle() {
	for w.net.Step(w.rng) {
	}
}

var _ fabric.Endpoint = (*simfab.Endpoint)(nil)
