package simfab_test

import (
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// A durable Flush covers what its own connection wrote before it: nothing of another connection, nothing that the CPU there
// stored, and nothing outside the range.
func TestDurableFlushCoversItsConnectionOnly(t *testing.T) {
	net := simfab.New(simfab.Options{Auto: true})
	mem := pmem.Simulate(4096, pmem.ADR, 1)
	key, err := net.Endpoint("B").Register(mem, 64, 4096-64, every)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := net.Connect("A", "B")
	c, _ := net.Connect("C", "B")
	word := func(conn fabric.Conn, off, v uint64) {
		conn.Post([]fabric.Op{{Kind: fabric.Write8, Remote: fabric.Addr{Key: key, Off: off}, A: v}})
	}
	flush := func(conn fabric.Conn, off, n, selectivity uint64) {
		conn.Post([]fabric.Op{{Kind: fabric.Flush, Remote: fabric.Addr{Key: key, Off: off}, Len: n, A: fabric.Durable, B: selectivity}})
	}
	durable := func(want ...uint64) {
		t.Helper()
		image := mem.Image()
		for i, v := range want {
			if got := uint64(image[64+256*i]); got != v {
				t.Errorf("word %d: %d is durable, want %d", i, got, v)
			}
		}
	}
	word(a, 0, 1)
	word(c, 256, 2)
	mem.Store64(64+512, 3)
	word(a, 768, 4)
	durable(0, 0, 0, 0)
	flush(a, 0, 512, fabric.Range)
	durable(1, 0, 0, 0)
	flush(c, 0, 0, fabric.Region)
	durable(1, 2, 0, 0)
	flush(a, 0, 0, fabric.Region)
	durable(1, 2, 0, 4)
}

// A Read is not atomic: what it brings may be of two moments.
func TestReadIsTorn(t *testing.T) {
	for seed := uint64(0); seed < 200; seed++ {
		net := simfab.New(simfab.Options{})
		remote, local := pmem.Heap(128), pmem.Heap(128)
		from, _ := net.Endpoint("B").Register(remote, 0, 128, every)
		to, _ := net.Endpoint("A").Register(local, 0, 128, fabric.LocalOnly)
		conn, _ := net.Connect("A", "B")
		conn.Post([]fabric.Op{{Kind: fabric.Read, Len: 128, Local: fabric.Span{Key: to}, Remote: fabric.Addr{Key: from}}})
		rng := rand.New(rand.NewPCG(seed, 0))
		for n := byte(1); net.Unlanded(conn) > 0; n++ {
			for i := range remote.Bytes() {
				remote.Bytes()[i] = n
			}
			net.StepConn(conn, rng)
		}
		if b := local.Bytes(); b[0] != b[127] {
			return
		}
	}
	t.Fatal("200 seeds, and every Read is of one moment")
}
