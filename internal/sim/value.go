package sim

import (
	"strconv"
	"strings"
)

// Every value that a client sets is unique: a letter, its number, a dot, and padding that can be told from damage. The
// letter is t for a value that expires some day, v for others.

func makeValue(letter byte, number, padding int) string {
	s := string(letter) + strconv.Itoa(number) + "."
	if padding > 0 {
		s += strings.Repeat(string(rune('a'+number%26)), padding)
	}
	return s
}

// valueNumber is the number of a value, 0 if it is none.
func valueNumber[T string | []byte](value T) int {
	if len(value) < 3 || value[0] != 'v' && value[0] != 't' {
		return 0
	}
	n := 0
	for i := 1; i < len(value) && value[i] != '.'; i++ {
		if value[i] < '0' || value[i] > '9' {
			return 0
		}
		n = 10*n + int(value[i]-'0')
	}
	return n
}

// short is a value without its padding, or the value as it is if the padding is not what it must be.
func short(value string) string {
	n := valueNumber(value)
	if n == 0 {
		return value
	}
	head := strings.IndexByte(value, '.') + 1
	if padding := value[head:]; padding != "" && (padding[0] != byte('a'+n%26) || padding[1:] != padding[:len(padding)-1]) {
		return value
	}
	return value[:head]
}
