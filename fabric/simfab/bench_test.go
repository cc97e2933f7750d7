package simfab_test

import (
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// writes is what one small replicated write costs a primary: a slot, bytes and a flush to one peer.
func writes(tb testing.TB, opts simfab.Options) (n *simfab.Network, post, poll func()) {
	n = simfab.New(opts)
	src, _ := n.Endpoint("P").Register(pmem.Heap(4096), 0, 4096, fabric.LocalOnly)
	dst, err := n.Endpoint("B").Register(pmem.Heap(4096), 0, 4096, every)
	if err != nil {
		tb.Fatal(err)
	}
	c, _ := n.Connect("P", "B")
	ops := []fabric.Op{
		{Kind: fabric.Write, Local: fabric.Span{Key: src}, Remote: fabric.Addr{Key: dst}, Len: 64},
		{Kind: fabric.Write, Local: fabric.Span{Key: src, Off: 64}, Remote: fabric.Addr{Key: dst, Off: 64}, Len: 128},
		{Kind: fabric.Flush, Flags: fabric.Signaled, Remote: fabric.Addr{Key: dst}, A: fabric.Visible, B: fabric.Region},
	}
	space := make([]fabric.Completion, 8)
	post = func() {
		if c.Post(ops) != len(ops) {
			tb.Fatal("queue full")
		}
	}
	poll = func() {
		if c.Poll(space) != 1 {
			tb.Fatal("no completion")
		}
	}
	return n, post, poll
}

// walk is one such write, landed in a random order.
func walk(tb testing.TB, opts simfab.Options) func() {
	n, post, poll := writes(tb, opts)
	rng := rand.New(rand.NewPCG(1, 1))
	return func() {
		post()
		for n.Step(rng) {
		}
		poll()
	}
}

func TestNoAllocations(t *testing.T) {
	for _, opts := range []simfab.Options{{}, {Auto: true}, {Late: true, Relaxed: true}} {
		once := walk(t, opts)
		for range 100 {
			once()
		}
		if got := testing.AllocsPerRun(200, once); got != 0 {
			t.Errorf("auto %v: %v allocations for two Writes and a Flush, want none", opts.Auto, got)
		}
	}
}

// BenchmarkWrites reports the time of three operations, posted, landed in a random order and polled.
func BenchmarkWrites(b *testing.B) {
	for name, opts := range map[string]simfab.Options{"auto": {Auto: true}, "step": {}, "relaxed": {Relaxed: true}} {
		b.Run(name, func(b *testing.B) {
			once := walk(b, opts)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

// BenchmarkOnPost is the same with a driver that hears of each operation and delivers it later.
func BenchmarkOnPost(b *testing.B) {
	var due []simfab.Event
	n, post, poll := writes(b, simfab.Options{OnPost: func(e simfab.Event) { due = append(due, e) }})
	b.ReportAllocs()
	for b.Loop() {
		post()
		for _, e := range due {
			if err := n.Deliver(e); err != nil {
				b.Fatal(err)
			}
		}
		due = due[:0]
		poll()
	}
}
