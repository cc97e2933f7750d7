package pmem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options say how a file is mapped. The zero value is right for every file.
type Options struct {
	// Domain declares the persistence domain of the file; it picks what Persist, CopyNT and Fence execute. None, the
	// zero value, is what the file itself gives: ADR or EADR on persistent memory (device DAX, or a file system mounted
	// with DAX), by what the kernel says of it, else FileShared. Declared, they are taken at their word: ADR and EADR for a
	// file whose pages are not persistent memory cost what flushes cost and survive what FileShared survives.
	Domain Domain
}

// File is a mapped file, or a mapped device of device DAX. Processes that map the same one share its bytes.
type File struct {
	region
	flusher flusher
	fenced  bool // Fence has something to wait for
	direct  bool // the mapped pages are the persistent memory itself: a flush makes durable, and there is nothing to write back
	name    string
	file    *os.File
	whole   []byte // what is mapped: mem, and what follows it up to the device's alignment
	warm    warmth
}

var _ Memory = (*File)(nil)

// Map maps the file at path, size bytes long, for reading and writing, and allocates all of it, so that no store finds
// the disk full. A file that does not exist is created, zero, with mode 0600, and appears whole or not at all, also if
// the process dies meanwhile. (Until then it is called path.new.) Size 0 takes an existing file as it is.
//
// Errors: the disk has not enough room (wraps ENOSPC; says how much is needed and free); an existing file has another
// size (it is left untouched); size is 0 and there is no file (wraps fs.ErrNotExist); the domain needs instructions
// that this machine lacks; path is in /dev, where devices are found and not made.
//
// A device of device DAX (/dev/dax0.0) is there with the size that it has: its first size bytes are mapped, all of it for
// size 0. Whatever was in it is still there: a device that is new to the caller need not be zero.
//
// Map takes no lock: that only one process owns the file is the caller's business.
func Map(path string, size uint64, options Options) (*File, error) {
	m, err := unmapped(path, options) // first: what cannot be mapped is not created either
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist) && filepath.Dir(path) == "/dev":
		return nil, fmt.Errorf("pmem: map: %w: there is no such device (ndctl list -N shows those of device DAX, by \"chardev\")", err)
	case errors.Is(err, os.ErrNotExist) && size > 0:
		if f, err = create(path, size); err != nil {
			return nil, fmt.Errorf("pmem: create %s: %w", path, err)
		}
	case err != nil:
		return nil, fmt.Errorf("pmem: map: %w", err)
	case !isDevice(f):
		found, err := sizeOf(f)
		if err == nil && size != 0 && found != size {
			err = fmt.Errorf("it is %d bytes long, expected were %d: "+
				"give its own size, or the path of the right file; it was not changed", found, size)
		}
		if err == nil {
			err = allocate(f, found)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("pmem: map %s: %w", path, err)
		}
	}
	return m.mapIn(f, size)
}

// Open maps the existing file at path as it is, for reading and writing: the file of another process, which allocated
// it. Nothing is created or allocated. The domain is the file's own, as with zero [Options].
func Open(path string) (*File, error) {
	m, err := unmapped(path, Options{})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("pmem: open: %w", err)
	}
	return m.mapIn(f, 0)
}

// unmapped is the file at path before it is opened: a domain that was declared is refused here, if it has to be.
func unmapped(path string, options Options) (*File, error) {
	f := &File{name: path}
	if err := f.enter(options.Domain); err != nil {
		return nil, fmt.Errorf("pmem: map %s: %w", path, err)
	}
	return f, nil
}

// enter decides what Persist, CopyNT and Fence do. None leaves that open.
func (f *File) enter(d Domain) error {
	if d > EADR {
		return fmt.Errorf("unknown domain %v", d)
	}
	by, err := flusherFor(d)
	if err != nil {
		return err
	}
	f.domain, f.flusher, f.fenced = d, by, d == ADR || d == EADR
	return nil
}

// mapIn maps file, which it takes over: on an error too, when it closes it. Of a device it maps the first size bytes (0:
// all), of a file everything.
func (f *File) mapIn(file *os.File, size uint64) (_ *File, err error) {
	defer func() {
		if err != nil {
			file.Close()
			err = fmt.Errorf("pmem: map %s: %w", f.name, err)
		}
	}()
	if isDevice(file) {
		err = f.mapDevice(file, size)
	} else {
		err = f.mapFile(file)
	}
	if err != nil {
		return nil, err
	}
	f.file = file
	mappings.add(f)
	return f, nil
}

func (f *File) mapFile(file *os.File) error {
	size, err := sizeOf(file)
	if err != nil {
		return err
	}
	if size == 0 {
		return errors.New("it is empty: restore it from another copy, or remove it to start anew")
	}
	if _, lacks := flusherFor(ADR); lacks == nil && f.domain != FileShared && f.domain != FileSynced {
		mem, err := mapSync(file, size)
		switch {
		case err == nil:
			f.direct = true
			f.own(mem, size)
			if f.domain == None {
				return f.enter(domainOfDAX(file))
			}
			return nil
		case err != unix.EOPNOTSUPP && err != unix.EINVAL: // EINVAL: a kernel before 4.15
			return fmt.Errorf("%d bytes: %w", size, err)
		}
	}
	mem, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("%d bytes: %w", size, err)
	}
	f.own(mem, size)
	if f.domain == None {
		return f.enter(FileShared)
	}
	return nil
}

func (f *File) mapDevice(file *os.File, size uint64) error {
	d, err := deviceOf(file)
	if err != nil {
		return err
	}
	if size == 0 {
		size = d.size
	}
	if size > d.size {
		return fmt.Errorf("the device has %d bytes, and %d are needed: choose a smaller size or a larger device", d.size, size)
	}
	f.direct = d.domain != None
	if f.domain == None {
		if d.domain == None {
			d.domain = FileShared // the memory outlives the process, and no more is known of it
		}
		if err := f.enter(d.domain); err != nil {
			return err
		}
	}
	mem, err := unix.Mmap(int(file.Fd()), 0, int((size+d.align-1)&^(d.align-1)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("%d bytes of a device with an alignment of %d: %w", size, d.align, err)
	}
	f.own(mem, size)
	return nil
}

// own makes the first size bytes of a mapping the file's.
func (f *File) own(mapping []byte, size uint64) {
	f.whole, f.mem = mapping, mapping[:size:size]
}

func isDevice(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// sizeOf is the length of f if it can be mapped.
func sizeOf(f *os.File) (uint64, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case st.Mode().Type() == os.ModeDevice:
		return 0, errors.New("it is a block device, not a regular file: mount it with -o dax and give a file on it, " +
			"or make it device DAX (ndctl create-namespace --mode devdax)")
	case !st.Mode().IsRegular():
		return 0, fmt.Errorf("it is not a regular file (%v)", st.Mode().Type())
	case st.Size() > math.MaxInt:
		return 0, fmt.Errorf("%d bytes do not fit in the address space", st.Size())
	}
	return uint64(st.Size()), nil
}

// Name is the path that the file was mapped by.
func (f *File) Name() string { return f.name }

// File is the open file below the mapping. It belongs to f: do not close it.
func (f *File) File() *os.File { return f.file }

// Persist implements [Memory]. In FileShared and FileSynced it only checks the range.
func (f *File) Persist(off, n uint64) {
	b := f.mem[off : off+n]
	if f.flusher != noFlush {
		flush(f.flusher, b)
	}
}

// CopyNT implements [Memory]. In all domains but ADR it is a plain copy.
func (f *File) CopyNT(off uint64, src []byte) {
	dst := f.mem[off : off+uint64(len(src))]
	if f.flusher != noFlush {
		copyFlushed(f.flusher, dst, src)
		return
	}
	copy(dst, src)
}

// Fence implements [Memory]. In FileShared and FileSynced it does nothing: a store that was executed survives the
// process, and in program order at that.
func (f *File) Fence() {
	if f.fenced {
		sfence()
	}
}

// Sync implements [Memory]. On persistent memory that is Persist and Fence, else it writes whole pages. The error names the
// file.
func (f *File) Sync(off, n uint64) error {
	if f.direct && f.fenced {
		f.Persist(off, n)
		f.Fence()
		return nil
	}
	pages := f.pages(off, n)
	if len(pages) == 0 {
		return nil
	}
	if err := unix.Msync(pages, unix.MS_SYNC); err != nil {
		return fmt.Errorf("pmem: sync %s [%d, %d): %w: what was not synced before may be lost with the power", f.name, off, off+n, err)
	}
	return nil
}

// Prefault makes the pages of [off, off+n) present and writable ahead of use: the first touch of a page costs about
// half a microsecond, and more where a block has to be found. Their bytes stay as they are, also while others write
// them. It blocks for as long as that takes; any goroutine may call it. A page that cannot be had (the file was
// shortened) is an error that wraps a [*Fault]. What [File.Warm] has touched already is not looked at again, which would
// take the kernel a fifth of a microsecond a page.
func (f *File) Prefault(off, n uint64) error {
	f.pages(off, n) // panics when the range is not the file's
	for n > 0 {
		step := min(n, warmStep)
		if !f.warm.has(off, step) {
			if err := f.populate(off, step); err != nil {
				return err
			}
		}
		off, n = off+step, n-step
	}
	return nil
}

// populate is one step of it.
func (f *File) populate(off, n uint64) error {
	pages := f.pages(off, n)
	if len(pages) == 0 {
		return nil
	}
	var err error
	for {
		if err = unix.Madvise(pages, unix.MADV_POPULATE_WRITE); err != unix.EINTR {
			break
		}
	}
	switch err {
	case nil:
		return nil
	case unix.EINVAL: // a kernel before 5.14
		err = Guard(func() { touch(pages) })
	case unix.EFAULT:
		fault := f.fault(off)
		if fault.Found >= 0 {
			fault.Off = max(off, uint64(fault.Found)) // the first byte that is missing
		}
		err = fault
	}
	if err != nil {
		err = fmt.Errorf("pmem: prefault %s [%d, %d): %w", f.name, off, off+n, err)
	}
	return err
}

// touch writes to each page of b what it holds, with an atomic addition of nothing, which loses no store of another
// thread.
func touch(pages []byte) {
	for off := 0; off < len(pages); off += pageSize {
		atomic.AddUint32((*uint32)(unsafe.Pointer(&pages[off])), 0)
	}
}

var pageSize = os.Getpagesize()

// pages is [off, off+n), grown to whole pages: the last one of the file is cut where the file ends.
func (f *File) pages(off, n uint64) []byte {
	_ = f.mem[off : off+n]
	if n == 0 {
		return nil
	}
	return f.mem[off&^uint64(pageSize-1) : off+n]
}

// Close unmaps and closes the file. The caller sees to it that nobody uses the memory any more: Bytes of before is
// gone, and touching it ends the process. It does not sync. A second Close is an error (wraps fs.ErrClosed).
func (f *File) Close() error {
	if !mappings.remove(f) {
		return fmt.Errorf("pmem: close %s: %w", f.name, os.ErrClosed)
	}
	f.cool()
	err := unix.Munmap(f.whole)
	f.mem, f.whole = nil, nil
	if err = errors.Join(err, f.file.Close()); err != nil {
		return fmt.Errorf("pmem: close %s: %w", f.name, err)
	}
	return nil
}
