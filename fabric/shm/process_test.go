package shm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// remoteTarget is a connection to another process with registered memory, which file maps here too, to look at it.
type remoteTarget struct {
	*child
	e    *Endpoint
	c    *conn
	key  fabric.Key
	file *pmem.File
	dir  string
}

func dialTarget(t *testing.T, size uint64, args ...string) *remoteTarget {
	t.Helper()
	r := &remoteTarget{e: open(t, t.TempDir()), file: mapped(t, size), dir: t.TempDir()}
	r.child = start(t, "target", append([]string{r.dir, r.file.Name()}, args...)...)
	key, err := strconv.ParseUint(r.hear("key"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	r.key = fabric.Key(key)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, answer, err := r.e.Dial(ctx, r.dir, []byte("hello"))
	if err != nil || string(answer) != "hello" {
		t.Fatalf("dial: %q, %v", answer, err)
	}
	r.c = c.(*conn)
	r.hear("accepted")
	return r
}

func (r *remoteTarget) do(op fabric.Op) fabric.Completion {
	r.t.Helper()
	op.Flags |= fabric.Signaled
	if op.Kind != fabric.Send {
		op.Remote.Key = r.key
	}
	r.c.Post([]fabric.Op{op})
	var done [2]fabric.Completion
	if n := r.c.Poll(done[:]); n != 1 {
		r.t.Fatalf("%d completions, want 1", n)
	}
	return done[0]
}

// TestTheTargetMayBeStopped: no operation needs a thread of the other side.
func TestTheTargetMayBeStopped(t *testing.T) {
	r := dialTarget(t, 1<<20)
	m := pmem.Heap(1 << 20)
	local := fabric.Span{Key: register(t, r.e, m, fabric.LocalOnly)}
	copy(m.Bytes(), "one-sided")
	r.signal(syscall.SIGSTOP)
	for _, op := range []fabric.Op{
		{Kind: fabric.Write, Local: local, Len: 1 << 20, Flags: fabric.Notify | fabric.WriteThrough},
		{Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region},
		{Kind: fabric.Write8, Remote: fabric.Addr{Off: 64}, A: 7},
		{Kind: fabric.FetchAdd, Remote: fabric.Addr{Off: 64}, A: 1},
		{Kind: fabric.CompareSwap, Remote: fabric.Addr{Off: 64}, A: 8, B: 9},
		{Kind: fabric.Fence},
		{Kind: fabric.Send, Local: local, Len: 9},
		{Kind: fabric.Read, Local: local, Len: 128},
	} {
		if c := r.do(op); c.Err != nil {
			t.Fatalf("kind %d with a stopped target: %v", op.Kind, c.Err)
		}
	}
	if got := string(r.file.Bytes()[:9]); got != "one-sided" || r.file.Load64(64) != 9 {
		t.Fatalf("the target's memory holds %q and %d", got, r.file.Load64(64))
	}
	if r.state() != "T" {
		t.Fatal("the target was not stopped all the time")
	}
}

// dies kills the target and checks that the connection breaks although the memory could still be written.
func dies(t *testing.T, r *remoteTarget) {
	t.Helper()
	m := pmem.Heap(4096)
	local := register(t, r.e, m, fabric.LocalOnly)
	r.c.Post([]fabric.Op{{Kind: fabric.Recv, ID: 5, Local: fabric.Span{Key: local}, Len: 64}})
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 1}); c.Err != nil {
		t.Fatal(c.Err)
	}
	r.cmd.Process.Kill()
	var done [4]fabric.Completion
	for deadline := time.Now().Add(patience); ; {
		n := r.c.Poll(done[:])
		if n > 0 {
			if n != 1 || done[0].ID != 5 || !errors.Is(done[0].Err, fabric.ErrBroken) {
				t.Fatalf("%v, want the Recv to end with ErrBroken", done[:n])
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the death was not noticed")
		}
		if r.e.Arm() {
			began := time.Now()
			if r.e.Wait(patience); time.Since(began) >= patience {
				t.Fatal("the death did not ring the doorbell")
			}
		}
	}
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 2}); !errors.Is(c.Err, fabric.ErrBroken) && !errors.Is(c.Err, fabric.ErrFlushed) {
		t.Fatalf("a write to a dead process ended with %v", c.Err)
	}
	if got := r.file.Load64(0); got != 1 {
		t.Fatalf("a write landed after the death was noticed: %d", got)
	}
}

func TestTheTargetDies(t *testing.T) { dies(t, dialTarget(t, 4096)) }

// The socket says nothing when another process has it: the pidfd does.
func TestTheTargetDiesAndLeavesItsSocket(t *testing.T) {
	dies(t, dialTarget(t, 4096, "leave the socket"))
}

func TestReconnectToARestartedTarget(t *testing.T) {
	r := dialTarget(t, 4096)
	key := r.key
	r.kill()
	again := start(t, "target", r.dir, r.file.Name())
	next, err := strconv.ParseUint(again.hear("key"), 10, 64)
	if err != nil || fabric.Key(next) <= key {
		t.Fatalf("key %#x (%v) after %#x of the earlier incarnation", next, err, key)
	}
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 3}); !errors.Is(c.Err, fabric.ErrBroken) {
		t.Fatalf("a write on the old connection ended with %v, want ErrBroken", c.Err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := r.e.Dial(ctx, r.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.c = c.(*conn)
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 3}); !errors.Is(c.Err, fabric.ErrAccess) {
		t.Fatalf("a write under the old key ended with %v, want ErrAccess", c.Err)
	}
	r.c.Close()
	if c, _, err = r.e.Dial(ctx, r.dir, nil); err != nil {
		t.Fatal(err)
	}
	r.c, r.key = c.(*conn), fabric.Key(next)
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 4}); c.Err != nil || r.file.Load64(0) != 4 {
		t.Fatalf("a write under the new key: %v, word %d", c.Err, r.file.Load64(0))
	}
}

func TestAShortenedFileIsAnErrorThatNamesIt(t *testing.T) {
	inside := func(r *remoteTarget) fabric.Completion {
		return r.do(fabric.Op{Kind: fabric.Write8, Remote: fabric.Addr{Off: 32768}, A: 1})
	}
	for name, test := range map[string]struct {
		file func(r *remoteTarget) string
		err  error
		op   func(r *remoteTarget) fabric.Completion
	}{
		"memory":  {func(r *remoteTarget) string { return r.file.Name() }, fabric.ErrAccess, inside},
		"control": {func(r *remoteTarget) string { return filepath.Join(r.dir, "fabric") }, fabric.ErrBroken, inside},
		"inbox": {func(r *remoteTarget) string { return filepath.Join(r.dir, "inbox.0") }, fabric.ErrBroken, func(r *remoteTarget) fabric.Completion {
			key := register(r.t, r.e, pmem.Heap(64), fabric.LocalOnly)
			return r.do(fabric.Op{Kind: fabric.Send, Local: fabric.Span{Key: key}, Len: 64})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialTarget(t, 64<<10)
			if c := inside(r); c.Err != nil {
				t.Fatal(c.Err)
			}
			r.signal(syscall.SIGSTOP) // it would find out, too
			if err := os.Truncate(test.file(r), 0); err != nil {
				t.Fatal(err)
			}
			c := test.op(r)
			if !errors.Is(c.Err, test.err) || !strings.Contains(c.Err.Error(), test.file(r)) {
				t.Fatalf("ended with %v, want %v and %s", c.Err, test.err, test.file(r))
			}
			if c := inside(r); !errors.Is(c.Err, fabric.ErrFlushed) && !errors.Is(c.Err, fabric.ErrBroken) {
				t.Fatalf("the next ended with %v, want ErrFlushed", c.Err)
			}
			if odd(r.c.busy) {
				t.Fatal("the fault left the connection busy")
			}
		})
	}
}

func TestAFileThatIsShortOrReplacedAtFirstUse(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"short": func(path string) error { return os.Truncate(path, 4096) },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"gone":  os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+".2", make([]byte, 64<<10), 0o600), os.Rename(path+".2", path))
		},
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"a pipe":   func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := dialTarget(t, 64<<10)
			if err := spoil(r.file.Name()); err != nil {
				t.Fatal(err)
			}
			c := r.do(fabric.Op{Kind: fabric.Write8, A: 1})
			if !errors.Is(c.Err, fabric.ErrAccess) || !strings.Contains(c.Err.Error(), r.file.Name()) {
				t.Fatalf("ended with %v, want ErrAccess and %s", c.Err, r.file.Name())
			}
		})
	}
}

func TestOneProcessAtATime(t *testing.T) {
	r := dialTarget(t, 4096)
	_, err := Open(r.dir, Options{Secret: testSecret})
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(r.cmd.Process.Pid)) {
		t.Fatalf("second Open: %v, want one that names process %d", err, r.cmd.Process.Pid)
	}
	if c := r.do(fabric.Op{Kind: fabric.Write8, A: 1}); c.Err != nil {
		t.Fatalf("the failed Open disturbed the first: %v", c.Err)
	}
}

func TestProcessIdentity(t *testing.T) {
	me, err := processOf(os.Getpid())
	if err != nil || me.exited() {
		t.Fatalf("%v, %v: this process has exited", me, err)
	}
	if before := (process{me.pid, me.start - 1}); !before.exited() {
		t.Error("the one that had this number before lives")
	}
	c := start(t, "hold")
	it, err := processOf(c.cmd.Process.Pid)
	if err != nil || it.exited() {
		t.Fatalf("%v, %v", it, err)
	}
	c.cmd.Process.Kill()
	until(t, "a zombie counts as dead", it.exited)
	c.kill()
	if !it.exited() {
		t.Error("a reaped process lives")
	}
}

func FuzzParseStart(f *testing.F) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stat)
	f.Add([]byte("1 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"))
	f.Add([]byte("1 ("))
	f.Fuzz(func(t *testing.T, b []byte) { parseStart(b) })
}

func TestParseStart(t *testing.T) {
	got, err := parseStart([]byte("1 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"))
	if got != 4711 || err != nil {
		t.Fatalf("%d, %v", got, err)
	}
}
