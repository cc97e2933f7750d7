package simfab_test

import (
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// A way with data, a slot and a flush, twice, and a READ: what each side notices, and what lands for it.
func TestNoticed(t *testing.T) {
	build := func() (*simfab.Network, fabric.Conn, *pmem.HeapMemory) {
		n := simfab.New(simfab.Options{})
		from, to := pmem.Heap(4096), pmem.Heap(4096)
		for i := range from.Bytes() {
			from.Bytes()[i] = 0xEE
		}
		local, _ := n.Endpoint("A").Register(from, 0, 4096, fabric.LocalOnly)
		key, _ := n.Endpoint("B").Register(to, 0, 4096, every)
		ab, _ := n.Connect("A", "B")
		write := func(off uint64) fabric.Op {
			return fabric.Op{Kind: fabric.Write, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: key, Off: off}, Len: 8}
		}
		flush := fabric.Op{Kind: fabric.Flush, Flags: fabric.Signaled, Remote: fabric.Addr{Key: key}, A: fabric.Visible, B: fabric.Region}
		read := fabric.Op{Kind: fabric.Read, Flags: fabric.Signaled, Local: fabric.Span{Key: local, Off: 1024}, Remote: fabric.Addr{Key: key, Off: 2048}, Len: 8}
		ab.Post([]fabric.Op{write(0), write(8), flush, write(16), write(24), flush, read})
		return n, ab, to
	}
	n, ab, to := build()
	if got := n.Unnoticed(ab, simfab.Target); got != 5 {
		t.Errorf("B notices %d operations, want four writes and the READ", got)
	}
	if got := n.Unnoticed(ab, simfab.Poster); got != 3 {
		t.Errorf("A notices %d operations, want two flushes and the READ", got)
	}
	for noticed, want := range []int{0, 0, 1, 1, 2, 0} { // the READ lands behind both flushes
		if got := n.Completing(ab, noticed); got != want {
			t.Errorf("behind %d operations that B notices %d complete, want %d", noticed, got, want)
		}
	}
	lands := func(by simfab.Side, words ...int) {
		t.Helper()
		if !n.LandNoticed(ab, by) {
			t.Fatal("nothing lands")
		}
		for at := range 4 {
			there := to.Bytes()[8*at] == 0xEE
			want := false
			for _, w := range words {
				want = want || w == at
			}
			if there != want {
				t.Fatalf("write %d is there: %v", at, there)
			}
		}
	}
	lands(simfab.Target, 0)
	lands(simfab.Target, 0, 1)
	lands(simfab.Target, 0, 1, 2) // it passes the flush
	if kind, some := n.Next(ab); !some || kind != fabric.Flush || n.Unpolled(ab) != 0 {
		t.Fatalf("the flush has landed, or was skipped: next is %v", kind)
	}
	lands(simfab.Poster, 0, 1, 2)
	if n.Unpolled(ab) != 1 {
		t.Fatal("A does not hear of the flush")
	}
	lands(simfab.Poster, 0, 1, 2, 3) // the second flush needs what is before it
	lands(simfab.Target, 0, 1, 2, 3) // the READ
	if n.Unpolled(ab) != 3 || n.LandNoticed(ab, simfab.Target) || n.LandNoticed(ab, simfab.Poster) {
		t.Fatal("something is left")
	}
	if _, some := n.Next(ab); some {
		t.Fatal("something is next")
	}
}
