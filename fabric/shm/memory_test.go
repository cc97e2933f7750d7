package shm

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

// TestLayout pins what two programs of different builds share.
func TestLayout(t *testing.T) {
	var c control
	var k keyEntry
	var l line
	var in inboxWords
	for name, v := range map[string][2]uintptr{
		"magic":         {unsafe.Offsetof(c.magic), 0},
		"version":       {unsafe.Offsetof(c.version), 8},
		"serial":        {unsafe.Offsetof(c.serial), 16},
		"pid":           {unsafe.Offsetof(c.pid), 24},
		"start":         {unsafe.Offsetof(c.start), 32},
		"boot":          {unsafe.Offsetof(c.boot), 40},
		"doorbell":      {unsafe.Offsetof(c.doorbell), 64},
		"parked":        {unsafe.Offsetof(c.doorbell.parked), 8},
		"lines":         {unsafe.Offsetof(c.lines), 4096},
		"keys":          {unsafe.Offsetof(c.keys), 20480},
		"control":       {unsafe.Sizeof(c), 20480 + 1024*512},
		"line":          {unsafe.Sizeof(l), 64},
		"line.gen":      {unsafe.Offsetof(l.gen), 0},
		"line.busy":     {unsafe.Offsetof(l.busy), 8},
		"line.pid":      {unsafe.Offsetof(l.pid), 16},
		"line.start":    {unsafe.Offsetof(l.start), 24},
		"key":           {unsafe.Sizeof(k), 512},
		"key.key":       {unsafe.Offsetof(k.key), 0},
		"key.off":       {unsafe.Offsetof(k.off), 8},
		"key.n":         {unsafe.Offsetof(k.n), 16},
		"key.dev":       {unsafe.Offsetof(k.dev), 24},
		"key.ino":       {unsafe.Offsetof(k.ino), 32},
		"key.rights":    {unsafe.Offsetof(k.rights), 40},
		"key.domain":    {unsafe.Offsetof(k.domain), 41},
		"key.length":    {unsafe.Offsetof(k.length), 42},
		"key.path":      {unsafe.Offsetof(k.path), 48},
		"inbox.tail":    {unsafe.Offsetof(in.tail), 0},
		"inbox.head":    {unsafe.Offsetof(in.head), 64},
		"inbox.waiting": {unsafe.Offsetof(in.waiting), 128},
		"inbox":         {unsafe.Sizeof(in), 192},
	} {
		if v[0] != v[1] {
			t.Errorf("%s: %d, documented as %d", name, v[0], v[1])
		}
	}
}

func TestNoAllocation(t *testing.T) {
	w := wire(t, 1<<16)
	w.ab.Post([]fabric.Op{w.write(0, 64, 0)}) // maps the file
	key := register(t, w.b, pmem.Heap(4096), fabric.LocalOnly)
	recv := []fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: 64}}
	remote := fabric.Addr{Key: w.remote}
	ops := []fabric.Op{
		w.write(0, 64, fabric.Notify), w.write(64, 64, fabric.Inline), w.write(0, 4096, fabric.WriteThrough),
		{Kind: fabric.Read, Local: fabric.Span{Key: w.local}, Remote: remote, Len: 512},
		{Kind: fabric.Write8, Remote: remote}, {Kind: fabric.FetchAdd, Remote: remote}, {Kind: fabric.CompareSwap, Remote: remote},
		{Kind: fabric.Fence}, {Kind: fabric.Send, Local: fabric.Span{Key: w.local}, Len: 64}, w.flush(fabric.Signaled),
	}
	var done [4]fabric.Completion
	if n := testing.AllocsPerRun(100, func() {
		w.ba.Post(recv)
		w.exchange(t, ops, done[:], 1)
		if w.ba.Poll(done[:]) != 1 || done[0].Err != nil {
			t.Fatal(done[0])
		}
		if w.b.Arm() {
			w.b.Wait(0)
		}
	}); n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

// TestStalledSenderIsWoken: a Send that finds no room waits, and so does its owner, until the receiver has made some.
func TestStalledSenderIsWoken(t *testing.T) {
	w := wire(t, maxSend)
	const messages = 400 // 25 MiB through a ring of 512 KiB
	key := register(t, w.b, pmem.Heap(maxSend), fabric.LocalOnly)
	limit := patience
	parks := [2]int{}
	// drive polls c, parking when there is nothing, until f is true.
	drive := func(i int, e *Endpoint, f func() bool) bool {
		for !f() {
			if !e.Arm() {
				continue
			}
			parks[i]++
			began := time.Now()
			if e.Wait(limit); time.Since(began) >= limit {
				return false
			}
		}
		return true
	}
	ended := make(chan bool)
	go func() {
		var done [8]fabric.Completion
		sent, completed := 0, 0
		ended <- drive(0, w.a, func() bool {
			for sent < messages && w.ab.Post([]fabric.Op{{Kind: fabric.Send, Flags: fabric.Signaled, Local: fabric.Span{Key: w.local}, Len: maxSend}}) == 1 {
				sent++
			}
			for n := 1; n > 0; completed += n { // until there is nothing: a full dst may have left some
				n = w.ab.Poll(done[:])
			}
			return completed == messages
		})
	}()
	var done [1]fabric.Completion
	received := 0
	w.ba.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: maxSend}})
	if !drive(1, w.b, func() bool {
		for w.ba.Poll(done[:]) == 1 {
			if done[0].Err != nil || done[0].Value != maxSend {
				t.Errorf("received %v", done[0])
				return true
			}
			received++
			w.ba.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: maxSend}})
		}
		return received == messages
	}) {
		t.Fatalf("the receiver was not woken after %d messages", received)
	}
	if !<-ended {
		t.Fatal("the sender was not woken")
	}
	t.Logf("sender parked %d times, receiver %d times", parks[0], parks[1])
}

// TestOrderBehindAStalledSend: what is posted behind it waits too, and inline bytes are those of the moment of Post.
func TestOrderBehindAStalledSend(t *testing.T) {
	w := wire(t, maxSend)
	key := register(t, w.b, pmem.Heap(maxSend), fabric.LocalOnly)
	send := fabric.Op{Kind: fabric.Send, Flags: fabric.Signaled, Local: fabric.Span{Key: w.local}, Len: maxSend}
	posted := 0
	for w.ab.queue.n == 0 {
		w.ab.Post([]fabric.Op{send})
		posted++
	}
	w.from[0] = 'x'
	w.ab.Post([]fabric.Op{w.write(0, 1, fabric.Inline|fabric.Signaled)})
	w.from[0] = 'y'
	var done [16]fabric.Completion
	if n := w.ab.Poll(done[:]); n != posted-1 || w.to[0] != 0 {
		t.Fatalf("%d completions of %d Sends, and the Write behind them made %q", n, posted, w.to[0])
	}
	w.ba.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: maxSend}})
	if w.ba.Poll(done[:]) != 1 {
		t.Fatal("nothing received")
	}
	if n := w.ab.Poll(done[:]); n != 2 || done[0].Kind != fabric.Send || done[1].Kind != fabric.Write || w.to[0] != 'x' {
		t.Fatalf("completions %v, and the Write made %q, want 'x'", done[:n], w.to[0])
	}
	// A full queue that ends in an error: every operation in it ends.
	for w.ab.Post([]fabric.Op{send}) == 1 {
	}
	w.ba.Close()
	ended := 0
	until(t, "all end", func() bool {
		n := w.ab.Poll(done[:])
		for _, c := range done[:n] {
			if c.Err != nil && !errors.Is(c.Err, fabric.ErrBroken) && !errors.Is(c.Err, fabric.ErrFlushed) {
				t.Fatal(c.Err)
			}
		}
		ended += n
		return ended == queueDepth
	})
}

// FuzzInbox: whatever a peer writes into the words and headers of an inbox, the receiver gets messages within bounds or
// an error.
func FuzzInbox(f *testing.F) {
	f.Add(uint64(0), uint64(16), uint64(5))
	f.Add(uint64(8), uint64(inboxRing+8), uint64(maxSend))
	f.Add(uint64(inboxRing-8), uint64(inboxRing+64), uint64(50))
	f.Add(uint64(0), ^uint64(0), ^uint64(0)-3)
	f.Add(uint64(0), uint64(8), uint64(1))
	memory := make([]byte, inboxSize)
	into := make([]byte, maxSend)
	f.Fuzz(func(t *testing.T, at, tail, n uint64) {
		base := unsafe.Pointer(&memory[0])
		b := inbox{file: anyFile(t), words: (*inboxWords)(base), ring: unsafe.Add(base, inboxData), at: at &^ 7}
		b.words.tail.Store(tail)
		*(*uint64)(unsafe.Add(b.ring, b.at%inboxRing)) = n
		for range 3 {
			n, ok, err := b.next()
			if err != nil || !ok {
				return
			}
			if n > maxSend {
				t.Fatalf("a message of %d bytes", n)
			}
			b.take(unsafe.Pointer(&into[0]), n)
		}
	})
}

var shared *pmem.File

func anyFile(t *testing.T) *pmem.File {
	if shared == nil {
		dir := t.TempDir()
		shared, _ = pmem.Map(dir+"/any", 64, pmem.Options{})
	}
	return shared
}

// FuzzKeyEntry: whatever stands in a peer's key table, using the key is a completion.
func FuzzKeyEntry(f *testing.F) {
	f.Add(uint64(0), uint64(4096), uint8(15), uint8(1), uint16(20), "/dev/null")
	f.Add(uint64(8), ^uint64(0), uint8(255), uint8(255), uint16(65535), "")
	f.Add(uint64(0), uint64(64), uint8(2), uint8(3), uint16(9), "/dev/zero")
	f.Fuzz(func(t *testing.T, off, n uint64, rights, domain uint8, length uint16, path string) {
		w := wire(t, 4096)
		k := &w.b.control.keys[w.remote&keyMask]
		k.off, k.n, k.rights, k.domain, k.length = off, n, rights, domain, length
		if path != "" {
			copy(k.path[:], path)
		}
		var done [1]fabric.Completion
		w.ab.Post([]fabric.Op{w.write(0, 8, fabric.Signaled)})
		if w.ab.Poll(done[:]) != 1 {
			t.Fatal("no completion")
		}
	})
}
