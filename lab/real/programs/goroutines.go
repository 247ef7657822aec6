// SPDX-License-Identifier: BSD-3-Clause

// goroutines COUNT WORD: serves HTTP while COUNT goroutines wait, most in a channel, one in a hundred
// in short sleeps, between which it checks what it keeps on its stack.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func waitUnderAKnownName(never chan int, kept string) {
	<-never
	panic(kept)
}

func turnUnderAKnownName(number int, word string) {
	kept := make([]string, 16)
	for i := range kept {
		kept[i] = strings.Repeat(word, 2)
	}
	for {
		time.Sleep(10 * time.Millisecond)
		for _, each := range kept {
			if each != word+word {
				panic(fmt.Sprintf("goroutine %d keeps %q", number, each))
			}
		}
	}
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	word, never := os.Args[2], make(chan int)
	for i := 0; i < count; i++ {
		if i%100 == 0 {
			go turnUnderAKnownName(i, word)
		} else {
			go waitUnderAKnownName(never, word+strconv.Itoa(i))
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, len(word), r.URL.Path)
	})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		panic(http.Serve(listener, nil))
	}()
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	<-ended
}
