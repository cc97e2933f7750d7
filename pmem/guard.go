package pmem

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"unsafe"
)

// Fault is an access to a page of a mapped file that could not be had: the file was shortened, or the disk failed.
type Fault struct {
	Name   string // the file
	Off    uint64 // of the byte that was accessed
	Mapped uint64 // bytes that were mapped
	Found  int64  // bytes that the file has now; -1 if that could not be found out, or it is a device
}

// Error names the file, the offset and what was found.
func (f *Fault) Error() string {
	if f.Found >= 0 && uint64(f.Found) < f.Mapped {
		return fmt.Sprintf("pmem: %s was shortened while it was mapped: no byte at offset %d, it has %d bytes instead of %d: "+
			"restore the file from another copy before it is mapped again", f.Name, f.Off, f.Found, f.Mapped)
	}
	return fmt.Sprintf("pmem: %s cannot be read or written at offset %d, although it is long enough: "+
		"look for errors of its disk or memory in the kernel's log", f.Name, f.Off)
}

// Guard calls f. Should f, on this goroutine, touch a page of a mapped file that is gone, f ends there and the error
// is a [*Fault]; deferred functions run, as with a panic. Every other panic passes through. Guards may be nested: the
// innermost takes the fault.
//
// It does not allocate and costs some nanoseconds. What f holds when it ends half way, locks for one, is f's business.
func Guard(f func()) (err error) {
	defer Catch(Arm(), &err)
	f()
	return nil
}

// Armed is the state of the goroutine before [Arm], for [Catch] to restore.
type Armed bool

// Arm makes faults of this goroutine panics, for [Catch] to catch.
func Arm() Armed { return Armed(debug.SetPanicOnFault(true)) }

// Catch is [Guard] for a function that guards itself, a loop for one, which pays for it once:
//
//	func (l *loop) run() (err error) {
//		defer pmem.Catch(pmem.Arm(), &err)
//		...
//	}
//
// It must be deferred directly, as here. A fault ends the function and is stored in *err.
func Catch(before Armed, err *error) {
	debug.SetPanicOnFault(bool(before))
	r := recover()
	if r == nil {
		return
	}
	// The error of a fault, unlike that of a nil pointer, knows its address (see debug.SetPanicOnFault).
	if e, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		if f, off := mappings.at(e.Addr()); f != nil {
			*err = f.fault(off)
			return
		}
	}
	panic(r)
}

// fault describes the failed access to the byte at off.
func (f *File) fault(off uint64) *Fault {
	fault := &Fault{Name: f.name, Off: off, Mapped: uint64(len(f.mem)), Found: -1}
	if st, err := f.file.Stat(); err == nil && st.Mode().IsRegular() {
		fault.Found = st.Size()
	}
	return fault
}

// mappings are the files that this process has mapped, to find the one of a fault.
var mappings registry

type registry struct {
	mu    sync.Mutex
	files []*File
}

func (r *registry) add(f *File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, f)
}

// remove reports whether f was there.
func (r *registry) remove(f *File) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.files, f)
	if i >= 0 {
		r.files = slices.Delete(r.files, i, i+1)
	}
	return i >= 0
}

// at is the file that has the address, and the offset in it; or nil.
func (r *registry) at(addr uintptr) (*File, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if off := addr - uintptr(unsafe.Pointer(unsafe.SliceData(f.mem))); off < uintptr(len(f.mem)) {
			return f, uint64(off)
		}
	}
	return nil, 0
}
