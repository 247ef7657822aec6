// SPDX-License-Identifier: BSD-3-Clause
// `java KnownServer WORD`: answers requests, each of which leaves garbage, by eight threads; a failed
// request is answered by the status 500. Another thread waits under a name that a core is searched for.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;

public final class KnownServer {
	// What a core is searched for: many objects of this class, each with the word.
	static final class Known {
		final byte[] word;

		Known(String word) {
			this.word = word.getBytes(StandardCharsets.US_ASCII);
		}
	}

	static final Map<Integer, Known> KEPT = new HashMap<>();

	static void waitUnderAKnownName(Object never) {
		synchronized (never) {
			while (true) {
				try {
					never.wait();
				} catch (InterruptedException e) {
					Runtime.getRuntime().halt(1);
				}
			}
		}
	}

	static void answer(HttpExchange exchange) throws IOException {
		StringBuilder garbage = new StringBuilder();
		int sum = 0;
		for (int i = 0; i < 1000; i++) {
			garbage.append(i);
			sum += KEPT.get(i).word.length;
		}
		boolean right = garbage.length() == 2890 && sum == 1000 * KEPT.get(0).word.length;
		byte[] body = Integer.toString(sum).getBytes(StandardCharsets.US_ASCII);
		exchange.sendResponseHeaders(right ? 200 : 500, body.length);
		exchange.getResponseBody().write(body);
		exchange.close();
	}

	public static void main(String[] args) throws IOException {
		for (int i = 0; i < 1000; i++)
			KEPT.put(i, new Known(args[0]));
		Thread waiter = new Thread(() -> waitUnderAKnownName(new Object()));
		waiter.setDaemon(true);
		waiter.start();
		HttpServer server = HttpServer.create(
			new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 64);
		server.createContext("/", KnownServer::answer);
		server.setExecutor(Executors.newFixedThreadPool(8));
		server.start();
		System.out.println("ready " + server.getAddress().getPort());
	}
}
