// A Java host, through the C ABI and JNA: the items most similar to one, from a bundle's index.
//   javac -cp jna.jar -d . examples/Host.java
//   java -cp jna.jar:. Host libshortlist.so movies.shortlist/items.index 10  50
import com.sun.jna.*;
import com.sun.jna.ptr.PointerByReference;
import java.nio.charset.StandardCharsets;
import java.util.*;

public class Host {
  static final byte[] error = new byte[1024]; // shortlist_error: an int, then the message
  static final ArrayList<Memory> kept = new ArrayList<>(); // native code cannot hold Java objects
  static NativeLibrary library;

  static void call(String name, Object... arguments) {
    Object[] all = Arrays.copyOf(arguments, arguments.length + 1);
    all[arguments.length] = error;
    if (library.getFunction("shortlist_" + name).invokeInt(all) != 0)
      throw new IllegalStateException(new String(error, 4, 1020, StandardCharsets.UTF_8).trim());
  }

  static Memory words(Object... values) { // a struct or array of 8-byte fields; null is 0
    Memory memory = new Memory(8L * values.length);
    kept.add(memory);
    for (int i = 0; i < values.length; i++)
      if (values[i] instanceof Long) memory.setLong(8L * i, (Long) values[i]);
      else memory.setPointer(8L * i, (Pointer) values[i]);
    return memory;
  }

  public static void main(String[] arguments) {
    library = NativeLibrary.getInstance(arguments[0]);
    int topN = Integer.parseInt(arguments[2]);
    PointerByReference index = new PointerByReference(), held = new PointerByReference();
    call("index_load", arguments[1], 1, index);
    call("index_view", index.getValue(), held);
    Pointer view = held.getValue();
    Memory info = words(64L, null, null, null, null, null, null, null); // shortlist_info
    call("view_info", view, info);
    long dim = info.getLong(24);
    boolean isText = info.getInt(56) == 1;
    byte[] text = arguments[3].getBytes(StandardCharsets.UTF_8);
    Memory utf8 = words(new Object[text.length / 8 + 1]), row = words(0L);
    utf8.write(0, text, 0, text.length);
    Memory id = isText ? words(utf8, (long) text.length) : words(Long.parseLong(arguments[3]));
    call("view_rows_of", view, words(1L, isText ? null : id, isText ? id : null, null), row);
    Memory query = new Memory(4 * dim), scores = new Memory(4L * topN);
    call("view_vectors", view, row, 1L, query);
    Memory filter = words(56L, words(1L, null, null, row), words(0L, 1L), null, null, null, 0L);
    Memory ids = new Memory(16L * topN), count = words(0L);
    Memory hits = words(48L, scores, null, isText ? null : ids, isText ? ids : null, count);
    call("view_search", view, query, 1L, dim, (long) topN, filter, 1L, hits);
    for (long i = 0; i < count.getLong(0); i++) {
      String found = isText ? new String(ids.getPointer(16 * i).getByteArray(0,
          (int) ids.getLong(16 * i + 8)), StandardCharsets.UTF_8) : "" + ids.getLong(8 * i);
      System.out.println(found + " " + Float.toHexString(scores.getFloat(4 * i)));
    }
  }
}
