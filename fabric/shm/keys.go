package shm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

const allRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush

// registration is a key of this endpoint, as its own connections use it for Local. Never changed.
type registration struct {
	key  fabric.Key
	base unsafe.Pointer
	n    uint64
	mem  pmem.Memory // keeps memory on the heap alive
}

// Register implements [fabric.Endpoint]. With remote rights m must be a mapped file, whose path peers find in the key
// table: a [pmem.File], or any memory with a Name that maps that whole file from its start. Without, any memory will do.
func (e *Endpoint) Register(m pmem.Memory, off, n uint64, rights fabric.Rights) (_ fabric.Key, err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	b := m.Bytes()
	size := uint64(len(b))
	switch {
	case rights&^allRights != 0:
		return 0, fmt.Errorf("shm: register: unknown rights %#x", rights&^allRights)
	case n == 0 || off > size || n > size-off:
		return 0, fmt.Errorf("shm: register: [%d, %d+%d) is empty or outside the memory of %d bytes", off, off, n, size)
	}
	var entry keyEntry
	if rights != fabric.LocalOnly {
		if err := entry.describe(m, off, n, rights); err != nil {
			return 0, fmt.Errorf("shm: register for peers: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, fabric.ErrClosed
	}
	for i := range e.locals {
		if e.locals[i].Load() != nil {
			continue
		}
		// The number is used up before anybody can see the key.
		serial := e.control.serial.Add(1)
		key := fabric.Key(serial<<keyBits | uint64(i))
		e.locals[i].Store(&registration{key, unsafe.Pointer(&b[off]), n, m})
		if rights != fabric.LocalOnly {
			e.control.keys[i].publish(&entry, key)
		}
		return key, nil
	}
	return 0, fmt.Errorf("shm: %s has %d registrations, which is the most: revoke some", e.dir, keyEntries)
}

// describe fills in all but the key.
func (k *keyEntry) describe(m pmem.Memory, off, n uint64, rights fabric.Rights) error {
	named, ok := m.(interface{ Name() string })
	if !ok {
		return fmt.Errorf("the memory (%T) is not a mapped file, which peers could map too: use pmem.Map", m)
	}
	path, err := filepath.Abs(named.Name())
	if err != nil {
		return err
	}
	if len(path) > pathMax {
		return fmt.Errorf("the path %s is longer than %d bytes: move the file to a folder with a shorter one", path, pathMax)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the memory's file cannot be opened: %w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	device := st.Mode()&os.ModeCharDevice != 0 // persistent memory, which has a size of its own
	if end := off + n; !device && (!st.Mode().IsRegular() || uint64(st.Size()) < end) {
		return fmt.Errorf("%s (%v, %d bytes) does not hold the registration, which ends at %d", path, st.Mode(), st.Size(), end)
	}
	id, err := identityOf(file)
	if err != nil {
		return err
	}
	k.off, k.n, k.dev, k.ino = off, n, id.dev, id.ino
	k.rights, k.domain, k.length = uint8(rights), uint8(m.Domain()), uint16(len(path))
	copy(k.path[:], path)
	return nil
}

// publish makes the entry, which is free, that of key.
func (k *keyEntry) publish(from *keyEntry, key fabric.Key) {
	k.off, k.n, k.dev, k.ino = from.off, from.n, from.dev, from.ino
	k.rights, k.domain, k.length = from.rights, from.domain, from.length
	k.path = from.path
	k.key.Store(uint64(key))
}

// Revoke implements [fabric.Endpoint].
func (e *Endpoint) Revoke(key fabric.Key) (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	e.mu.Lock()
	defer e.mu.Unlock()
	i := uint64(key) & keyMask
	if r := e.locals[i].Load(); r != nil && r.key == key {
		e.control.keys[i].key.Swap(0) // a full fence
		e.locals[i].Store(nil)
		if inside := e.inside(nil); len(inside) > 0 {
			e.revoking[key] = inside
		}
	}
	inside := e.revoking[key]
	for len(inside) > 0 && inside[0].over() {
		inside = inside[1:]
	}
	if len(inside) > 0 {
		e.revoking[key] = inside
		return fabric.ErrInFlight
	}
	delete(e.revoking, key)
	return nil
}

// errNoKey and the like end up inside an access error.
var (
	errNoKey   = errors.New("unknown or revoked key")
	errOutside = errors.New("outside the registration")
	errRight   = errors.New("the key does not give that right")
)
