package simfab_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/fabric/simfab"
	"whale/pmem"
)

// pairs makes a factory of pairs on a fresh network each; progress is what lets one thing happen.
func pairs(opts simfab.Options, progress func(*simfab.Network, *rand.Rand)) fabrictest.Factory {
	return func(t testing.TB) *fabrictest.Pair {
		n := simfab.New(opts)
		a, b := n.Endpoint("A"), n.Endpoint("B")
		rng := rand.New(rand.NewPCG(1, 2))
		p := &fabrictest.Pair{
			A: a, B: b,
			NewMemory: func(t testing.TB, _ fabric.Endpoint, size uint64) pmem.Memory { return pmem.Heap(size) },
			Progress:  func() { progress(n, rng) },
			Kill:      func() { n.Crash("B") },
			Connect: func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
				b.Listen(answer)
				ca, reply, err := a.Dial(context.Background(), "B", hello)
				if err != nil {
					return nil, nil, nil, err
				}
				cb, err := b.Accept(context.Background(), nil)
				return ca, cb, reply, err
			},
		}
		p.AB, p.BA = n.Connect("A", "B")
		return p
	}
}

func all(n *simfab.Network, _ *rand.Rand)    { n.DeliverAll() }
func step(n *simfab.Network, rng *rand.Rand) { n.Step(rng) }

// TestConformance: whatever the network is allowed to do, the interface holds.
func TestConformance(t *testing.T) {
	t.Run("at once", func(t *testing.T) { fabrictest.Run(t, pairs(simfab.Options{Auto: true}, all)) })
	t.Run("on demand", func(t *testing.T) { fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 32, RecvDepth: 8}, all)) })
	t.Run("random", func(t *testing.T) { fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 64, RecvDepth: 16}, step)) })
	t.Run("random, late", func(t *testing.T) {
		fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 64, RecvDepth: 16, Late: true}, step))
	})
	t.Run("random, relaxed", func(t *testing.T) {
		fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 64, RecvDepth: 16, Relaxed: true}, step))
	})
	t.Run("random, relaxed, late", func(t *testing.T) {
		fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 64, RecvDepth: 16, Relaxed: true, Late: true}, step))
	})
	t.Run("random, in the middle", func(t *testing.T) {
		fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 64, RecvDepth: 16, Relaxed: true, Midway: true}, step))
	})
	t.Run("caches in the way", func(t *testing.T) { fabrictest.Run(t, pairs(simfab.Options{DDIO: true}, step)) })
	t.Run("few capabilities", func(t *testing.T) {
		fabrictest.Run(t, pairs(simfab.Options{QueueDepth: 2, RecvDepth: 4, Inline: -1, MaxSend: 64, NoAtomics: true, NoDurable: true}, all))
	})
}
