package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/plog"
	"whale/internal/store"
	"whale/pmem"
)

// mapMemory maps the member's memory, a new one if there is none, and settles what shape a new one gets. The memory is the
// file of that name in the data folder, or what a link of that name there leads to: so a memory elsewhere, once given,
// belongs to the folder, and no start without the setting takes an empty one for it.
func (n *Node) mapMemory() error {
	link := filepath.Join(n.cfg.Dir, memoryFile)
	path, err := memoryPath(link, n.cfg.Memory)
	if err != nil {
		return permanent(err)
	}
	size, err := n.wantedGeometry(path)
	if err != nil {
		return permanent(err)
	}
	if n.memory, err = pmem.Map(path, size, pmem.Options{}); errors.Is(err, unix.ENOSPC) {
		return err
	} else if err != nil {
		return permanent(err)
	}
	// The folder is locked, but the memory need not be in it, and one that is may be what another node's --memory names.
	if err := unix.Flock(int(n.memory.File().Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("memory %s: %w: another node has it: stop that one first, or give another --memory", path, err)
	}
	if path == link {
		return nil
	}
	if err := os.Symlink(path, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return permanent(fmt.Errorf("note in the data folder where the memory is: %w", err))
	}
	return nil
}

// memoryPath is where the memory is: the file link, or what it leads to, or, if there is none yet, what was asked for.
func memoryPath(link, asked string) (string, error) {
	if asked != "" {
		var err error
		if asked, err = filepath.Abs(asked); err != nil {
			return "", err
		}
	}
	target, err := os.Readlink(link)
	switch {
	case errors.Is(err, fs.ErrNotExist) && asked != "":
		return asked, nil
	case errors.Is(err, fs.ErrNotExist) || asked == "" && errors.Is(err, unix.EINVAL): // EINVAL: not a link
		return link, nil
	case errors.Is(err, unix.EINVAL):
		return "", fmt.Errorf("--memory %s: the data folder has a memory already, %s: leave --memory out to go on with it, or give another --dir", asked, link)
	case err != nil:
		return "", err
	case asked != "" && asked != target:
		return "", fmt.Errorf("--memory %s: the memory of this data folder is %s (%s leads there): leave --memory out to go on with it, or give another --dir", asked, target, link)
	}
	if _, err := os.Stat(target); err != nil {
		return "", fmt.Errorf("the memory of this data folder, to which %s leads: %w: is its file system mounted, or its namespace enabled?", link, err)
	}
	return target, nil
}

// recover opens the memory, formatted if it never was, and rebuilds the store from its log.
func (n *Node) recover() error {
	path := n.memory.Name()
	if err := n.openRecords(path); err != nil {
		return err
	}
	role := store.Replica
	if n.cfg.ID == 0 {
		role = store.Primary
	}
	n.store = store.New(n.records, role)
	began := time.Now()
	var found plog.Recovery
	var err error
	if fault := pmem.Guard(func() { found, err = n.store.Rebuild() }); fault != nil {
		err = fault
	}
	if err != nil {
		return permanent(err)
	}
	n.memory.Warm(n.records.Geometry().Arena() + n.records.Tail())
	if found.Records > 0 {
		n.log.Info("recovered", "records", found.Records, "bytes", found.Bytes, "file", path, "took", time.Since(began).Round(time.Millisecond))
	}
	if found.CutBytes > 0 {
		n.log.Warn("cut off the end of the log, which was never durable", "bytes", found.CutBytes, "records", found.CutRecords,
			"offset", found.CutOffset, "reason", found.CutReason, "file", path)
	}
	return nil
}

// openRecords opens the log; a memory that was never formatted is formatted.
func (n *Node) openRecords(path string) error {
	id := plog.Identity{Member: uint32(n.cfg.ID)}
	var err error
	if fault := pmem.Guard(func() {
		if n.records, err = plog.Open(n.memory, path, id); errors.Is(err, plog.ErrUnformatted) {
			if err = plog.Format(n.memory, n.geometry, id); err == nil {
				n.records, err = plog.Open(n.memory, path, id)
			}
		}
	}); fault != nil {
		err = fault
	}
	if err != nil {
		return permanent(err)
	}
	if n.cfg.Arena != 0 && n.records.Geometry().Size() != n.geometry.Size() {
		return permanent(otherArena(path, n.records.Geometry(), n.cfg.Arena))
	}
	return nil
}

// wantedGeometry settles the shape of a new memory, and says which size to map: 0 for a file that is there.
func (n *Node) wantedGeometry(path string) (size uint64, err error) {
	st, err := os.Stat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew { // no right to look there, for one, or a part of the path is no folder
		return 0, fmt.Errorf("memory: %w", err)
	}
	var onDevice uint64 // bytes of a formatted memory
	room := uint64(DefaultArena)
	if !isNew && st.Mode()&os.ModeCharDevice != 0 {
		if onDevice, room, err = lookAtDevice(path); err != nil {
			return 0, err
		}
	}
	if n.cfg.Arena != 0 {
		room = n.cfg.Arena
	}
	if n.geometry, err = plog.DefaultGeometry(room); err != nil {
		return 0, fmt.Errorf("--arena: %w", err)
	}
	if n.cfg.RingSlots != 0 {
		n.geometry.RingSlots = n.cfg.RingSlots
		if err := n.geometry.Validate(); err != nil {
			return 0, err
		}
	}
	switch {
	case onDevice != 0:
		return onDevice, nil
	case isNew || st.Mode()&os.ModeCharDevice != 0:
		return n.geometry.Size(), nil
	}
	return 0, nil
}

// lookAtDevice says how many bytes of the device are formatted, none if it is new, and how large an arena fits into it. A
// new device must be zero: a file is when it is created, but a device holds what anybody left there.
func lookAtDevice(path string) (formatted, room uint64, err error) {
	m, err := pmem.Map(path, 0, pmem.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer m.Close()
	size := uint64(len(m.Bytes()))
	if smallest, err := plog.DefaultGeometry(16 << 20); err != nil {
		return 0, 0, err
	} else if size < smallest.Size() {
		return 0, 0, fmt.Errorf("the device %s has %d bytes, a memory needs %d at least: give a larger one", path, size, smallest.Size())
	} else {
		room = (size - smallest.Arena()) &^ (smallest.SegmentSize - 1)
	}
	if fault := pmem.Guard(func() {
		var g plog.Geometry
		switch g, err = plog.Stored(m); {
		case err == nil:
			formatted = g.Size()
		case errors.Is(err, plog.ErrUnformatted):
			err = notZero(path, m.Bytes()[plog.SuperblockSize:])
		default:
			err = fmt.Errorf("%s: %w: if nobody needs what the device holds, overwrite it with zeros (daxio --zero --output %s)", path, err, path)
		}
	}); fault != nil {
		err = fault
	}
	return formatted, room, err
}

func notZero(path string, b []byte) error {
	zeros := make([]byte, 1<<20)
	for off := 0; off < len(b); off += len(zeros) {
		part := b[off:min(off+len(zeros), len(b))]
		if !bytes.Equal(part, zeros[:len(part)]) {
			return fmt.Errorf("the device %s holds something that is not a memory of Whale, in the MiB behind offset %d: "+
				"if nobody needs it any more, overwrite it with zeros (daxio --zero --output %s)", path, plog.SuperblockSize+off, path)
		}
	}
	return nil
}

func otherArena(path string, found plog.Geometry, asked uint64) error {
	return fmt.Errorf("%s has an arena of %d MiB, and --arena asks for %d MiB: an existing memory keeps its size. Leave --arena out to go on with it, or move the data folders of all nodes away to start anew",
		path, found.ArenaSize()>>20, asked>>20)
}
