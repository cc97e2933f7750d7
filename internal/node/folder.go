package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Files in a node's data folder.
const (
	pidFile    = "whale.pid" // the process that has the folder; locked while it lives
	memoryFile = "memory"    // superblock, control page, ring and arena
)

// Folder is a data folder that this process, and no other, has. The lock is the kernel's, on the pid file, and goes with
// the process: after a crash nothing is left to be removed.
type Folder struct {
	Path string
	pid  *os.File
}

// OpenFolder creates the folder if need be (mode 0700), locks it, and writes this process's id to whale.pid in it. owner
// says in errors what kind of process has it ("whale serve").
func OpenFolder(path, owner string) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	name := filepath.Join(path, pidFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		who := "another process"
		if first, err := os.ReadFile(name); err == nil && len(first) > 0 {
			who = "process " + strings.TrimSpace(string(first))
		}
		return nil, &InUseError{Path: path, Owner: owner, Who: who}
	}
	d := &Folder{Path: path, pid: f}
	if err := d.Note(strconv.Itoa(os.Getpid())); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// InUseError: another process has the data folder.
type InUseError struct {
	Path  string
	Owner string // what kind of process
	Who   string // what its pid file says
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("data folder %s is in use by %s (%s): stop that one first, or give another folder", e.Path, e.Who, e.Owner)
}

// Note replaces the text of whale.pid. Its first word is the process's id.
func (d *Folder) Note(text string) error {
	err := d.pid.Truncate(0)
	if err == nil {
		_, err = d.pid.WriteAt([]byte(text+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", d.pid.Name(), err)
	}
	return nil
}

// Close gives the folder free. The pid file stays, empty: removing it would let a third process lock a file that a second
// one, which has just opened it, takes for the lock.
func (d *Folder) Close() error {
	return errors.Join(d.pid.Truncate(0), d.pid.Close())
}

const secretBytes = 32

// CreateSecret makes a cluster secret, 32 random bytes in hex with mode 0600, unless the file is there already.
func CreateSecret(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	raw := make([]byte, secretBytes)
	rand.Read(raw)
	// Under its name the file is whole or not there.
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(hex.EncodeToString(raw)+"\n"), 0o600); err != nil {
		return fmt.Errorf("cluster secret: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("cluster secret: %w", err)
	}
	return nil
}

// ReadSecret reads a cluster secret that nobody but its owner can read.
func ReadSecret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("cluster secret: %w: every node of the cluster needs the same file; make one with: (umask 077; openssl rand -hex 32 > %s)", err, path)
	case err != nil:
		return nil, fmt.Errorf("cluster secret: %w", err)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("cluster secret %s can be read or written by others (mode %04o): make it yours alone with: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cluster secret: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) < secretBytes {
		return nil, fmt.Errorf("cluster secret %s: expected at least %d bytes as %d hexadecimal digits", path, secretBytes, 2*secretBytes)
	}
	return secret, nil
}
