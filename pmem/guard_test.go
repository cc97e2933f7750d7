package pmem

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

func addressOf(f *File) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(f.mem))) }
func page(n int) uint64         { return uint64(n * pageSize) }
func truncate(t testing.TB, f *File, n int64) {
	t.Helper()
	if err := os.Truncate(f.Name(), n); err != nil {
		t.Fatal(err)
	}
}

var sink byte

func wantFault(t *testing.T, err error, f *File, off uint64) {
	t.Helper()
	var fault *Fault
	if !errors.As(err, &fault) {
		t.Fatalf("error %v is no fault", err)
	}
	// A copy may touch the bytes of a page in any order.
	if fault.Name != f.Name() || fault.Off < off || fault.Off >= off+1000 || fault.Mapped != uint64(len(f.mem)) {
		t.Errorf("fault %+v, expected %s at %d", *fault, f.Name(), off)
	}
}

// Every kind of access to a page that is gone is an error that names file and offset, and the process goes on.
func TestShortenedFileIsAnError(t *testing.T) {
	domains := []Domain{FileShared}
	if _, err := flusherFor(ADR); err == nil {
		domains = append(domains, ADR)
	}
	for name, access := range map[string]func(f *File, at uint64){
		"load":    func(f *File, at uint64) { sink = f.Bytes()[at] },
		"store":   func(f *File, at uint64) { f.Bytes()[at] = 1 },
		"copy in": func(f *File, at uint64) { copy(f.Bytes()[at:], make([]byte, 1000)) },
		"copy out": func(f *File, at uint64) {
			b := make([]byte, 1000)
			copy(b, f.Bytes()[at:])
		},
		"string":  func(f *File, at uint64) { sink = string(f.Bytes()[at : at+100])[3] },
		"append":  func(f *File, at uint64) { sink = append([]byte(nil), f.Bytes()[at:at+100]...)[3] },
		"CopyNT":  func(f *File, at uint64) { f.CopyNT(at, make([]byte, 1000)) },
		"Load64":  func(f *File, at uint64) { f.Load64(at) },
		"Store64": func(f *File, at uint64) { f.Store64(at, 1) },
		"flush":   func(f *File, at uint64) { f.Persist(at, 64); sink = f.Bytes()[at] },
		"touch":   func(f *File, at uint64) { touch(f.pages(at, 1)) },
	} {
		for _, d := range domains {
			t.Run(fmt.Sprintf("%s/%v", name, d), func(t *testing.T) {
				other := mapTemp(t, page(4), Options{})
				f := mapTemp(t, page(4), Options{Domain: d})
				if err := Guard(func() { access(f, page(2)) }); err != nil {
					t.Fatalf("in a whole file: %v", err)
				}
				truncate(t, f, int64(page(2)))
				err := Guard(func() { access(f, page(2)) })
				wantFault(t, err, f, page(2))
				wantError(t, err, f.Name(), "offset ", fmt.Sprint("has ", page(2)), fmt.Sprint("of ", page(4)))
				if err := Guard(func() { access(f, page(1)) }); err != nil {
					t.Fatalf("below the new end: %v", err)
				}
				if err := Guard(func() { access(other, page(3)) }); err != nil {
					t.Fatalf("in another file: %v", err)
				}
			})
		}
	}
}

func TestPrefaultOfAShortenedFile(t *testing.T) {
	f := mapTemp(t, page(8), Options{})
	truncate(t, f, int64(page(5)))
	if err := f.Prefault(page(1), page(4)); err != nil {
		t.Fatal(err)
	}
	err := f.Prefault(page(1), page(6))
	wantFault(t, err, f, page(5))
	wantError(t, err, "prefault", f.Name())
}

// Without the guard the same access ends the process: the other tests show something.
func TestUnguardedFaultKills(t *testing.T) {
	if path := os.Getenv("PMEM_TEST_FAULT"); path != "" {
		f, err := Map(path, page(4), Options{})
		if err != nil {
			t.Fatal(err)
		}
		truncate(t, f, 0)
		sink = f.Bytes()[page(1)]
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestUnguardedFaultKills$")
	cmd.Env = append(os.Environ(), "PMEM_TEST_FAULT="+filepath.Join(t.TempDir(), "memory"))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "SIGBUS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestGuardsNest(t *testing.T) {
	f := mapTemp(t, page(2), Options{})
	truncate(t, f, 0)
	var inner, again error
	outer := Guard(func() {
		inner = Guard(func() { sink = f.Bytes()[0] })
		again = Guard(func() {})
		sink = f.Bytes()[page(1)] // the inner guards left the goroutine armed
		t.Error("went on after a fault")
	})
	wantFault(t, inner, f, 0)
	wantFault(t, outer, f, page(1))
	if again != nil {
		t.Error(again)
	}
}

// A loop that guards itself.
func TestCatchInALoop(t *testing.T) {
	f := mapTemp(t, page(4), Options{})
	rounds := 0
	loop := func() (err error) {
		defer Catch(Arm(), &err)
		for off := uint64(0); ; off = (off + page(1)) % page(4) {
			f.Store64(off, 1)
			if rounds++; rounds == 100 {
				truncate(t, f, int64(page(1)))
			}
		}
	}
	failed := make(chan error)
	go func() { failed <- loop() }()
	wantFault(t, <-failed, f, page(1))
	if rounds < 100 {
		t.Errorf("%d rounds", rounds)
	}
}

func TestErrorOfTheFunctionStays(t *testing.T) {
	want := errors.New("its own")
	got := func() (err error) {
		defer Catch(Arm(), &err)
		return want
	}()
	if got != want {
		t.Errorf("%v", got)
	}
}

func TestOtherPanicsPass(t *testing.T) {
	var none *int
	unmapped := mapTemp(t, page(2), Options{})
	gone := unmapped.Bytes()
	unmapped.Close()
	for name, f := range map[string]func(){
		"value": func() { panic("mine") },
		"index": func() { sink = make([]byte, 1)[len(os.Args)+5] },
		"nil":   func() { *none = 1 },
		"unmapped memory is a bug, not a fault of a file": func() { sink = gone[0] },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				r := recover()
				if r == nil {
					t.Error("the panic was swallowed")
				}
				if _, ok := r.(*Fault); ok {
					t.Error("the panic was changed")
				}
			}()
			err := Guard(f)
			t.Errorf("returned %v", err)
		})
	}
}

func TestGoexitPasses(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		Guard(runtime.Goexit)
		t.Error("returned")
	}()
	<-done
}

func TestGuardDoesNotAllocate(t *testing.T) {
	f := mapTemp(t, page(1), Options{})
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		if err := Guard(func() { n += int(f.Load64(8)) }); err != nil {
			t.Error(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
