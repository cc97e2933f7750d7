package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples: each example runs, and prints what it says that it prints; and the list in doc.go has them all.
func TestExamples(t *testing.T) {
	programs, err := filepath.Glob("[0-9]*/main.go")
	if err != nil || len(programs) < 5 {
		t.Fatalf("%d examples, %v", len(programs), err)
	}
	list, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "./...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, program := range programs {
		name := filepath.Dir(program)
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(string(list), "//\t"+name+" ") {
				t.Error("doc.go does not list it")
			}
			want, err := os.ReadFile(filepath.Join(name, "output.txt"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := exec.Command(filepath.Join(bin, name)).CombinedOutput()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("it ends with %v and prints\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}
