package crashtest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper/app"
)

// fresh is a workload's program on a heap.
func fresh(t testing.TB, w workload.Workload, threads int) (app.Program, *mirror.Region, *pmem.HeapMemory) {
	t.Helper()
	m := pmem.HeapOf(size(w), pmem.ADR)
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(r); err != nil {
		t.Fatal(err)
	}
	return open(t, w, r), r, m
}

// Damage runs n transactions of each thread, and then changes words of the blocks and of the root object, one at a time. Check may not
// panic; whenever a user could see the difference, it must find it. What is behind a block's content may hold anything: how much is found
// is logged, and must be a third.
func Damage(t *testing.T, w workload.Workload, n int) {
	p, r, m := fresh(t, w, w.Threads())
	for i, th := range threads(w, 1) {
		if err := p.Run(th, n); err != nil {
			t.Fatalf("thread %d: %v", i, err)
		}
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	want := p.Content()
	data := m.Bytes()[mirror.HeadSize:]
	tried, found := 0, 0
	change := func(off uint64, flip byte) {
		tried++
		data[off] ^= flip
		if err := p.Check(); err != nil {
			found++
		} else if p.Content() != want {
			t.Errorf("byte %d was changed by %#x, the content is another one, and nothing was found", off, flip)
		}
		data[off] ^= flip
	}
	pool, err := ptx.Open(r, ptx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	words := func(off, size uint64) {
		for at := off; at < off+size; at += 8 {
			change(at, 1)
			change(at+1, 0x40)
		}
	}
	words(pool.Root(), pool.RootSize())
	for off, size := range pool.Blocks() {
		words(off, size)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d changes, %d found", tried, found)
	if found < tried/3 {
		t.Errorf("only %d of %d changes were found", found, tried)
	}
}

// Threads runs a workload by real threads at once, more than it asks for perhaps, and checks.
func Threads(t *testing.T, w workload.Workload, threads, n int) {
	p, _, _ := fresh(t, w, threads)
	errs := make([]error, threads)
	var all sync.WaitGroup
	for i := range threads {
		all.Go(func() { errs[i] = p.Run(workload.NewThread(i, 1, app.Still{}), n) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("thread %d: %v", i, err)
		}
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Parameters opens what a workload has prepared by one with other parameters; and nothing at all, and what is too small. Each is a clear error.
func Parameters(t *testing.T, w, other workload.Workload) {
	_, r, _ := fresh(t, w, w.Threads())
	if err := w.Prepare(r); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("prepared twice: %v", err)
	}
	if _, err := other.Open(r); err == nil {
		t.Error("data of other parameters were opened")
	}
	empty, err := mirror.Open(context.Background(), pmem.HeapOf(size(w), pmem.ADR), nil, nil, mirror.Options{Threads: w.Threads()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(empty); err == nil || !strings.Contains(err.Error(), "prepare") {
		t.Errorf("nothing was opened: %v", err)
	}
	tiny, err := mirror.Open(context.Background(), pmem.HeapOf(mirror.HeadSize+4096, pmem.ADR), nil, nil, mirror.Options{Threads: w.Threads()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(tiny); err == nil {
		t.Error("a region that is too small was prepared")
	}
}
