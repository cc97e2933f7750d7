//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const recordHeader = 64 // in front of a record's key

// memoryOf is the largest file of a folder.
func memoryOf(t testing.TB, folder string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(folder, "*"))
	slices.SortFunc(files, func(a, b string) int { return int(fileSize(b) - fileSize(a)) })
	if len(files) == 0 || fileSize(files[0]) < 1<<20 {
		t.Fatalf("%s has no memory: %v", folder, files)
	}
	return files[0]
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// stoppedWithData is a cluster that was stopped in order, and its nodes' folders; the primary's is the first. It holds a
// hundred keys "damage:N" with the values of number N.
func stoppedWithData(t *testing.T) (c *cluster, folders []string) {
	c = ownCluster(t, "--arena", "64MiB")
	c.start()
	c.awaitReady()
	order := append([]int{c.primary()}, c.backups()...)
	for _, i := range order {
		folders = append(folders, c.folder(c.pid(i)))
	}
	for i := range 100 {
		if reply, err := c.once(i%nodes, "SET", fmt.Sprintf("damage:%d", i), value(i, 300)); err != nil || reply != "OK" {
			t.Fatalf("SET: %q, %v", reply, err)
		}
	}
	// All of it is durable everywhere: the chain has come to its end.
	if reply, err := c.once(order[0], "GET", "damage:0"); err != nil {
		t.Fatalf("%q, %v", reply, err)
	}
	conn, err := dial(c.addrs[order[0]])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	conn.text("SET", "damage:last", "x")
	if n, err := conn.text("WAIT", "2", "10000"); err != nil || n != "2" {
		t.Fatalf("WAIT 2: %q, %v", n, err)
	}
	c.stop()
	return c, folders
}

// flip inverts a bit of the byte at off.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// notServed checks that no node answers a read of the data, with anything but an error.
func notServed(t testing.TB, c *cluster) {
	t.Helper()
	for i := range c.addrs {
		if got, err := c.once(i, "GET", "damage:0"); err == nil || err == errNil {
			t.Errorf("node %d answers %.40q, %v although the shard must not be served", i, got, err)
		}
	}
}

// Damage to what was durable is an error with everything that one needs to look into it, not a shorter log.
func TestDamageIsAnError(t *testing.T) {
	for member, name := range []string{"primary", "first backup", "second backup"} {
		t.Run(name, func(t *testing.T) {
			c, folders := stoppedWithData(t)
			path := memoryOf(t, folders[member])
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(text, []byte("damage:42"+value(42, 300)))
			if at < 0 {
				t.Fatalf("%s does not have the record", path)
			}
			record := int64(at - recordHeader)
			flip(t, path, int64(at+100))
			printed := len(c.printed())
			c.start()
			c.awaitPrinted(printed, filepath.Base(folders[member]), filepath.Base(path), "checksum", strconv.FormatInt(record, 10))
			notServed(t, c)
			c.stop()
			// Undone, everything is there again: nothing was thrown away on the way.
			flip(t, path, int64(at+100))
			c.start()
			c.awaitReady()
			for i := range 100 {
				if got, err := c.once(i%nodes, "GET", fmt.Sprintf("damage:%d", i)); err != nil || got != value(i, 300) {
					t.Fatalf("damage:%d after the repair: %.40q, %v", i, got, err)
				}
			}
		})
	}
}

// A primary whose data are gone must not make the others forget theirs.
func TestEmptiedPrimaryIsNotServed(t *testing.T) {
	c, folders := stoppedWithData(t)
	files, err := os.ReadDir(folders[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.RemoveAll(filepath.Join(folders[0], f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	printed := len(c.printed())
	c.start()
	c.awaitPrinted(printed, folders[0]+" ends at record", "knows of records")
	text := c.printed()[printed:]
	if fabric != "tcp" && !strings.Contains(text, folders[1]) && !strings.Contains(text, folders[2]) {
		t.Errorf("the error does not name the folder that has more:\n%s", tail(text, 3000))
	}
	notServed(t, c)
	for _, f := range folders[1:] {
		got, err := os.ReadFile(memoryOf(t, f))
		if err != nil || !bytes.Contains(got, []byte("damage:42"+value(42, 300))) {
			t.Errorf("%s has lost its data (%v)", f, err)
		}
	}
}

// A memory file that was shortened is an error that names it; not a crash, not an empty log.
func TestShortenedMemoryIsAnError(t *testing.T) {
	c, folders := stoppedWithData(t)
	path := memoryOf(t, folders[1])
	if err := os.Truncate(path, fileSize(path)/2); err != nil {
		t.Fatal(err)
	}
	printed := len(c.printed())
	c.start()
	c.awaitPrinted(printed, path)
	notServed(t, c)
	if text := c.printed()[printed:]; strings.Contains(text, "SIGBUS") || strings.Contains(text, "goroutine ") {
		t.Errorf("a crash instead of an error:\n%s", tail(text, 3000))
	}
}

// A second cluster on the same folders is told who has them.
func TestSecondProcessOnAFolder(t *testing.T) {
	c := newCluster(t)
	if external != nil {
		t.Skip("needs the processes")
	}
	args := append([]string{}, c.args...)
	args[slices.Index(args, "--port")+1] = strconv.Itoa(freePorts(t))
	out, err := os.CreateTemp(t.TempDir(), "second")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	select {
	case err := <-gone:
		if err == nil {
			t.Error("the second one ended without an error")
		}
	case <-time.After(15 * time.Second):
		t.Error("the second one goes on")
		cmd.Process.Signal(os.Interrupt)
		<-gone
	}
	text, _ := os.ReadFile(out.Name())
	named := strings.Contains(string(text), strconv.Itoa(c.dev.Process.Pid))
	for _, pid := range c.pids() {
		named = named || strings.Contains(string(text), strconv.Itoa(pid))
	}
	if !named || !strings.Contains(string(text), c.dir) {
		t.Errorf("the error names neither the process that has the folder nor the folder:\n%s", text)
	}
	if err := c.probe(0); err != nil {
		t.Errorf("the first cluster: %v", err)
	}
}
