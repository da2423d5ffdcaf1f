/*
 * A tagger: a label for every word, which depends on the words before it and after it, so the recurrent layer runs in both
 * directions. Trained weights would come from a file (elman_sequential_load); here they are set by hand, for a task whose
 * answer is known: mark each word that stands between an opening and a closing bracket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elman.h"

/* Token 0 is padding; the others are the words. */
enum { PADDING, WORD, OPEN, CLOSE, VOCABULARY };
enum { EMBEDDING = 2, BATCH = 3, STEPS = 9 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

static elman_sequential *new_network(void)
{
    /* A token becomes (is OPEN, is CLOSE). */
    static const float embedding[VOCABULARY * EMBEDDING] = {0, 0, 0, 0, 1, 0, 0, 1};
    /* A unit each way remembers: forwards an OPEN, backwards a CLOSE; the other bracket makes it forget. */
    static const float forwards[EMBEDDING] = {20, -20}, backwards[EMBEDDING] = {-20, 20};
    static const float remember = 10, both[2] = {10, 10}, threshold = -15;
    elman_simple_rnn_config config;
    elman_sequential *network;

    check(elman_sequential_new(1, &network));
    check(elman_sequential_add_embedding(network, VOCABULARY, EMBEDDING, 1));
    check(elman_simple_rnn_config_init(&config, sizeof config, 1));
    config.return_sequences = 1;
    check(elman_sequential_add_bidirectional(network, &config, ELMAN_MERGE_MODE_CONCAT));
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, 0));
    check(elman_sequential_set_weight(network, 0, ELMAN_WEIGHT_EMBEDDING, embedding, VOCABULARY * EMBEDDING));
    check(elman_sequential_set_weight(network, 1, ELMAN_WEIGHT_KERNEL, forwards, EMBEDDING));
    check(elman_sequential_set_weight(network, 1, ELMAN_WEIGHT_RECURRENT_KERNEL, &remember, 1));
    check(elman_sequential_set_weight(network, 1, ELMAN_WEIGHT_BACKWARD_KERNEL, backwards, EMBEDDING));
    check(elman_sequential_set_weight(network, 1, ELMAN_WEIGHT_BACKWARD_RECURRENT_KERNEL, &remember, 1));
    check(elman_sequential_set_weight(network, 2, ELMAN_WEIGHT_KERNEL, both, 2));
    check(elman_sequential_set_weight(network, 2, ELMAN_WEIGHT_BIAS, &threshold, 1));
    return network;
}

int main(void)
{
    static const char *const sentences[BATCH] = {"ab(cd)ef", "(a)b(c", "a)b(cd)"};
    static const char *const expected[BATCH] = {"...xx...", ".x....", "....xx."};
    int32_t ids[BATCH][STEPS] = {{PADDING}};
    float y[BATCH][STEPS];
    int wrong = 0;
    elman_sequential *network = new_network();

    for (size_t row = 0; row < BATCH; row++)
        for (size_t i = 0; i < strlen(sentences[row]); i++)
            ids[row][i] = sentences[row][i] == '(' ? OPEN : sentences[row][i] == ')' ? CLOSE : WORD;
    check(elman_sequential_predict_tokens(network, &ids[0][0], BATCH * STEPS, BATCH, STEPS, &y[0][0], BATCH * STEPS));

    for (size_t row = 0; row < BATCH; row++) {
        printf("%-10s", sentences[row]);
        for (size_t i = 0; i < strlen(sentences[row]); i++) {
            printf("%6.3f", (double)y[row][i]);
            wrong += (y[row][i] > 0.5f) != (expected[row][i] == 'x');
        }
        printf("\n");
    }
    printf(wrong == 0 ? "every word has its label\n" : "%d labels are WRONG\n", wrong);
    elman_sequential_free(network);
    return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
