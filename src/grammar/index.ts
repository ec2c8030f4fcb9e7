export { GrammarService, type GrammarServiceOptions } from "./grammar-service.js";
export { grammarVocabulary } from "./vocabulary.js";
