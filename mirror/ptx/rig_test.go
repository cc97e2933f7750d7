package ptx_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
)

// world is a pool in a region with one mirror, on a simulated network.
type world struct {
	t      testing.TB
	net    *simfab.Network
	rng    *rand.Rand
	here   *pmem.Simulated
	there  *pmem.Simulated
	region *mirror.Region
	pool   *ptx.Pool
	onIdle func() error
}

const size = 48 << 10

func newWorld(t testing.TB, seed uint64, s mirror.Strategy, o ptx.Options) *world {
	t.Helper()
	w := &world{t: t, net: simfab.New(simfab.Options{Relaxed: true}), rng: rand.New(rand.NewPCG(seed, 3)),
		here: pmem.Simulate(mirror.HeadSize+size, pmem.ADR, seed), there: pmem.Simulate(mirror.HeadSize+size, pmem.ADR, seed+1)}
	w.serve()
	w.open(s, o)
	return w
}

func (w *world) serve() {
	x, err := mirror.NewExport(w.net.Endpoint("M"), w.there)
	if err != nil {
		w.t.Fatal(err)
	}
	w.net.Endpoint("M").Listen(x.Answer)
}

func (w *world) open(s mirror.Strategy, o ptx.Options) {
	w.t.Helper()
	mo := mirror.Options{Strategy: s, Threads: 2, Idle: w.idle}
	peers := []string{"M"}
	if s == mirror.None {
		peers = nil
	}
	var err error
	if w.region, err = mirror.Open(context.Background(), w.here, w.net.Endpoint("P"), peers, mo); err != nil {
		w.t.Fatal(err)
	}
	if w.pool, err = ptx.Open(w.region, o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) idle() error {
	if w.onIdle != nil {
		return w.onIdle()
	}
	if !w.net.Step(w.rng) {
		return errors.New("nothing can happen on the network")
	}
	return nil
}

// reopen opens what a crash left of one side, alone.
func reopen(t testing.TB, m pmem.Memory) *ptx.Pool {
	t.Helper()
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ptx.Open(r, ptx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t testing.TB, p *ptx.Pool) *ptx.Tx {
	t.Helper()
	tx, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commit(t testing.TB, tx *ptx.Tx) {
	t.Helper()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
