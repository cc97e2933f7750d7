package sim

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The story of a seed is the same on another processor. Needs qemu-user.
func TestSameStoryOnARM64(t *testing.T) {
	if os.Getenv("WHALE_SIM") != "long" {
		t.Skip("an emulator is slow: WHALE_SIM=long")
	}
	var emulator string
	for _, name := range []string{"qemu-aarch64", "qemu-aarch64-static"} {
		if path, err := exec.LookPath(name); err == nil {
			emulator = path
		}
	}
	if emulator == "" {
		t.Skip("qemu-user is not installed")
	}
	dir := t.TempDir()
	whale, story := filepath.Join(dir, "whale"), filepath.Join(dir, "story")
	build := exec.Command("go", "build", "-o", whale, "whale/cmd/whale")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, seed := range []string{"3", "5"} {
		if out, err := exec.Command(emulator, whale, "sim", "check", "--seeds", "1", "--seed", seed, "--trace", story).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		theirs, err := os.ReadFile(story)
		if err != nil {
			t.Fatal(err)
		}
		var ours bytes.Buffer
		if _, err := Run(uint64(seed[0]-'0'), Options{Faults: DefaultFaults(), Trace: &ours}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(theirs, ours.Bytes()) {
			t.Errorf("seed %s: another story on arm64", seed)
		}
	}
}
